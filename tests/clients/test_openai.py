"""The openai package against `facet serve fable`."""

import unittest

import openai

import servers

STORY = [{"role": "user", "content": "Tell me a story about a fox."}]


class OpenAi(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = servers.fable("--max-model-len", "2048")
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="any", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        code = cls.server.stop()
        assert code == 0, f"exit code {code}: {''.join(cls.server.log)}"

    def create(self, **fields):
        fields = {"model": "fable", "messages": STORY, "max_tokens": 24, **fields}
        return self.client.chat.completions.create(**fields)

    def test_models(self):
        models = self.client.models.list()
        self.assertEqual([model.id for model in models], ["fable"])
        self.assertEqual(self.client.models.retrieve("fable").object, "model")
        with self.assertRaises(openai.NotFoundError):
            self.client.models.retrieve("none")

    def test_chat(self):
        answer = self.create(temperature=0)
        self.assertEqual(answer.object, "chat.completion")
        choice = answer.choices[0]
        self.assertEqual(choice.message.role, "assistant")
        self.assertGreater(len(choice.message.content), 20)
        self.assertIn(choice.finish_reason, ("stop", "length"))
        usage = answer.usage
        self.assertEqual(usage.total_tokens, usage.prompt_tokens + usage.completion_tokens)
        self.assertGreater(usage.prompt_tokens, 5)
        self.assertLessEqual(usage.completion_tokens, 24)
        self.assertTrue(answer.system_fingerprint)

    def test_stream_is_the_plain_answer(self):
        plain = self.create(seed=5)
        text, reasons, usages = "", [], []
        for chunk in self.create(seed=5, stream=True, stream_options={"include_usage": True}):
            if chunk.usage:
                usages.append(chunk.usage)
                self.assertEqual(chunk.choices, [])
                continue
            delta = chunk.choices[0].delta
            text += delta.content or ""
            reasons.append(chunk.choices[0].finish_reason)
        self.assertEqual(text, plain.choices[0].message.content)
        self.assertEqual(reasons[-1], plain.choices[0].finish_reason)
        self.assertTrue(all(reason is None for reason in reasons[:-1]))
        self.assertEqual(len(usages), 1)
        self.assertEqual(usages[0].completion_tokens, plain.usage.completion_tokens)

    def test_accumulator_with_several_choices(self):
        # To its accumulator an answer that a cap cut off is an error, so these end with a sentence.
        fields = {"max_tokens": 400, "seed": 9, "n": 3, "stop": ["."]}
        plain = self.create(**fields)
        with self.client.chat.completions.stream(
            model="fable", messages=STORY, **fields
        ) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        texts = [choice.message.content for choice in final.choices]
        self.assertEqual(texts, [choice.message.content for choice in plain.choices])
        self.assertEqual([choice.index for choice in final.choices], [0, 1, 2])
        self.assertEqual(len(set(texts)), 3, "each choice draws for itself")

    def test_seed(self):
        texts = [self.create(seed=seed).choices[0].message.content for seed in (1, 1, 2)]
        self.assertEqual(texts[0], texts[1])
        self.assertNotEqual(texts[0], texts[2])

    def test_logprobs(self):
        answer = self.create(temperature=0, logprobs=True, top_logprobs=3)
        choice = answer.choices[0]
        entries = choice.logprobs.content
        joined = b"".join(bytes(entry.bytes) for entry in entries)
        self.assertTrue(joined.decode().startswith(choice.message.content))
        for entry in entries:
            self.assertLessEqual(entry.logprob, 0)
            tops = [top.logprob for top in entry.top_logprobs]
            self.assertEqual(len(tops), 3)
            self.assertEqual(tops, sorted(tops, reverse=True))
            self.assertEqual(entry.logprob, tops[0], "greedy takes the likeliest")

    def test_stop_strings(self):
        whole = self.create(temperature=0).choices[0].message.content
        word = whole.split()[3]
        answer = self.create(temperature=0, stop=[word])
        self.assertEqual(answer.choices[0].message.content, whole[: whole.index(word)].rstrip())
        self.assertEqual(answer.choices[0].finish_reason, "stop")

    def test_completions(self):
        answer = self.client.completions.create(
            model="fable", prompt="Once upon a time", max_tokens=6, temperature=0, logprobs=1, echo=True
        )
        choice = answer.choices[0]
        self.assertTrue(choice.text.startswith("Once upon a time"))
        lists = choice.logprobs
        self.assertEqual("".join(lists.tokens)[: len(choice.text)], choice.text)
        self.assertEqual(len(lists.tokens), len(lists.token_logprobs))
        self.assertEqual(len(lists.tokens), len(lists.text_offset))
        streamed = "".join(
            chunk.choices[0].text
            for chunk in self.client.completions.create(
                model="fable", prompt="Once upon a time", max_tokens=6, temperature=0, stream=True
            )
        )
        self.assertEqual("Once upon a time" + streamed, choice.text)

    def test_errors_have_their_classes(self):
        with self.assertRaises(openai.BadRequestError) as caught:
            self.create(temperature=11)
        self.assertEqual(caught.exception.code, "invalid_value")
        self.assertEqual(caught.exception.param, "temperature")
        with self.assertRaises(openai.NotFoundError) as caught:
            self.create(model="other")
        self.assertEqual(caught.exception.code, "model_not_found")
        with self.assertRaises(openai.BadRequestError) as caught:
            self.create(messages=[{"role": "user", "content": "fox " * 4000}])
        self.assertEqual(caught.exception.code, "context_length_exceeded")
        self.assertIn("maximum context length is 2048 tokens", str(caught.exception))
        with self.assertRaises(openai.BadRequestError) as caught:
            self.create(response_format={"type": "json_object"})
        self.assertEqual(caught.exception.code, "unsupported_parameter")
        self.assertEqual(self.create(temperature=0).choices[0].index, 0, "and serves on")


class Keys(unittest.TestCase):
    def test_wrong_key(self):
        import os
        import tempfile

        with tempfile.NamedTemporaryFile("w", delete=False) as file:
            file.write("reader " + "k" * 40 + "\n")
        os.chmod(file.name, 0o600)
        server = servers.fable("--api-key-file", file.name)
        try:
            for key, works in (("k" * 40, True), ("k" * 39 + "x", False)):
                client = openai.OpenAI(base_url=server.url + "/v1", api_key=key, max_retries=0)
                if works:
                    self.assertEqual(client.models.list().data[0].id, "fable")
                else:
                    with self.assertRaises(openai.AuthenticationError) as caught:
                        client.models.list()
                    self.assertEqual(caught.exception.code, "invalid_api_key")
        finally:
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
