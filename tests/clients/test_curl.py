"""curl against `facet serve fable`: what goes over the wire."""

import json
import subprocess
import unittest

import servers


class Curl(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = servers.fable()

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, "".join(cls.server.log)

    def curl(self, path, body=None, *flags):
        arguments = ["curl", "-sS", "-i", "--max-time", "60", *flags]
        if body is not None:
            arguments += ["-H", "Content-Type: application/json", "--data-binary", "@-"]
        done = subprocess.run(
            [*arguments, self.server.url + path],
            input=json.dumps(body).encode() if body is not None else None,
            capture_output=True,
            check=True,
        )
        head, _, text = done.stdout.decode().partition("\r\n\r\n")
        while head.startswith("HTTP/1.1 100"):
            head, _, text = text.partition("\r\n\r\n")
        return int(head.split()[1]), head.lower(), text

    def chat(self, **fields):
        return {
            "messages": [{"role": "user", "content": "Tell me a story."}],
            "max_tokens": 8,
            "temperature": 0,
            **fields,
        }

    def test_plain(self):
        status, head, text = self.curl("/v1/chat/completions", self.chat(), "-H", "X-Request-Id: a-1")
        self.assertEqual(status, 200)
        self.assertIn("content-type: application/json", head)
        self.assertIn("x-request-id: a-1", head)
        self.assertEqual(json.loads(text)["object"], "chat.completion")

    def test_stream(self):
        status, head, text = self.curl("/v1/chat/completions", self.chat(stream=True), "-N")
        self.assertEqual(status, 200)
        self.assertIn("content-type: text/event-stream; charset=utf-8", head)
        self.assertIn("cache-control: no-cache", head)
        events = text.split("\n\n")
        self.assertEqual(events[-1], "")
        self.assertEqual(events[-2], "data: [DONE]")
        chunks = [json.loads(event.removeprefix("data: ")) for event in events[:-2]]
        self.assertEqual(chunks[0]["choices"][0]["delta"], {"role": "assistant", "content": ""})
        self.assertEqual(chunks[-1]["choices"][0]["delta"], {})
        self.assertTrue(all("usage" not in chunk for chunk in chunks))

    def test_large_body_waits_for_continue(self):
        body = self.chat(metadata={"note": "x" * 2000000})
        status, _, text = self.curl("/v1/chat/completions", body, "-H", "Expect: 100-continue")
        self.assertEqual(status, 200)
        self.assertEqual(json.loads(text)["object"], "chat.completion")
        body = self.chat(metadata={"note": "x" * 9000000})
        status, _, text = self.curl("/v1/chat/completions", body, "-H", "Expect: 100-continue")
        self.assertEqual(status, 413)
        self.assertEqual(json.loads(text)["error"]["code"], "payload_too_large")

    def test_generate_and_tokens(self):
        _, _, text = self.curl("/tokenize", {"prompt": "Once upon a time"})
        ids = json.loads(text)["tokens"]
        _, _, text = self.curl("/detokenize", {"tokens": ids})
        self.assertIn("Once upon a time", json.loads(text)["prompt"])
        _, _, text = self.curl(
            "/generate", {"input_ids": ids, "sampling_params": {"max_new_tokens": 4, "temperature": 0}}
        )
        answer = json.loads(text)
        self.assertEqual(len(answer["output_ids"]), 4)
        self.assertEqual(answer["meta_info"]["finish_reason"], {"type": "length", "length": 4})

    def test_peer_that_leaves(self):
        body = self.chat(max_tokens=100000, stream=True, ignore_eos=True)
        with self.assertRaises(subprocess.CalledProcessError):
            self.curl("/v1/chat/completions", body, "-N", "--max-time", "0.3")
        status, _, _ = self.curl("/v1/chat/completions", self.chat())
        self.assertEqual(status, 200)


if __name__ == "__main__":
    unittest.main()
