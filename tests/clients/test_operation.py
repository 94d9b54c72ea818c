"""/metrics and /openapi.json, read by what others read them with."""

import json
import os
import unittest
import urllib.error
import urllib.request

import jsonschema
import openapi_spec_validator
from prometheus_client.parser import text_string_to_metric_families

import servers

STORY = [{"role": "user", "content": "Tell me a story."}]


class Operation(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = servers.fable("--metrics-alias", "vllm,sglang", "--admin-api")
        cls.document = json.loads(cls.fetch("/openapi.json")[1])

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, "".join(cls.server.log)

    @classmethod
    def fetch(cls, path, body=None):
        """Status and text."""
        request = urllib.request.Request(
            cls.server.url + path,
            None if body is None else json.dumps(body).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    def families(self):
        return {family.name: family for family in text_string_to_metric_families(self.fetch("/metrics")[1])}

    def test_metrics_parse(self):
        before = self.families()
        status, _ = self.fetch("/v1/chat/completions", {"messages": STORY, "max_tokens": 5, "ignore_eos": True})
        self.assertEqual(status, 200)
        after = self.families()

        def value(families, family, sample, **labels):
            return sum(
                one.value
                for one in families[family].samples
                if one.name == sample and labels.items() <= one.labels.items()
            )

        for family, sample, grown in (
            ("engine_generated_tokens", "engine_generated_tokens_total", 5),
            ("vllm:generation_tokens", "vllm:generation_tokens_total", 5),
            ("engine_inter_token_seconds", "engine_inter_token_seconds_count", 4),
            ("sglang:time_to_first_token_seconds", "sglang:time_to_first_token_seconds_count", 1),
            ("vllm:request_success", "vllm:request_success_total", 1),
        ):
            self.assertEqual(value(after, family, sample) - value(before, family, sample), grown, sample)
        for family in after.values():
            self.assertTrue(family.documentation, family.name)
            for sample in family.samples:
                self.assertEqual(sample.labels["model_name"], "fable", sample.name)
            if family.type == "histogram":
                counts = [one.value for one in family.samples if one.name.endswith("_bucket")]
                self.assertEqual(counts, sorted(counts), family.name)
                self.assertEqual(counts[-1], value(after, family.name, family.name + "_count"))

    def test_document_is_valid(self):
        openapi_spec_validator.validate(self.document)

    def validator(self, schema):
        return jsonschema.Draft202012Validator({**schema, "components": self.document["components"]})

    def check(self, method, path, body=None, at=None):
        """One request: body and answer are as the document says."""
        operation = self.document["paths"][path][method]
        if body is not None:
            schema = operation["requestBody"]["content"]["application/json"]["schema"]
            self.validator(schema).validate(body)
        status, text = self.fetch(at or path, body)
        self.assertIn(str(status), operation["responses"], f"{path}: {text}")
        response = operation["responses"][str(status)]
        if "$ref" in response:
            response = self.document["components"]["responses"][response["$ref"].rsplit("/", 1)[1]]
        for media, content in response["content"].items():
            if media == "application/json":
                self.validator(content["schema"]).validate(json.loads(text))
        return status

    def test_answers_are_as_described(self):
        for path, item in self.document["paths"].items():
            if "get" in item:
                self.assertEqual(self.check("get", path, at=path.replace("{id}", "fable")), 200, path)
        self.assertEqual(self.check("get", "/v1/models/{id}", at="/v1/models/none"), 404)
        full = {
            "n": 2, "max_tokens": 4, "seed": 1, "stop": ["zzz"], "return_token_ids": True, "user": None,
            "prompt_logprobs": 1,
        }
        tool = {"type": "function", "function": {"name": "f", "parameters": {"type": "object", "properties": {}}}}
        for path, body in (
            ("/v1/chat/completions", {"messages": STORY, "logprobs": True, "top_logprobs": 2, **full}),
            ("/v1/chat/completions", {"messages": STORY, "tools": [tool], "tool_choice": "required", "max_tokens": 60}),
            ("/v1/chat/completions", {"messages": STORY, "reasoning_effort": "high", "max_tokens": 30}),
            ("/v1/completions", {"prompt": ["Once", [2, 5]], "logprobs": 1, "echo": True, **full}),
            ("/generate", {"text": "Once", "return_logprob": True, "sampling_params": {"max_new_tokens": 3}}),
            ("/generate", {"input_ids": [[2, 5], [2, 6]], "sampling_params": {"max_new_tokens": 3, "n": 2}}),
            ("/tokenize", {"prompt": "Once", "return_token_strs": True}),
            ("/tokenize", {"messages": STORY}),
            ("/tokenize", {"content": "Once", "with_pieces": True}),
            ("/detokenize", {"tokens": [2, 5]}),
            ("/apply-template", {"messages": STORY}),
            ("/abort_request", {"abort_all": True}),
        ):
            self.assertEqual(self.check("post", path, body), 200, f"{path} {body}")
        wrong = {"messages": STORY, "temperature": 11}
        status, text = self.fetch("/v1/chat/completions", wrong)
        self.assertEqual(status, 400)
        self.validator({"$ref": "#/components/schemas/Error"}).validate(json.loads(text))
        schema = {"$ref": "#/components/schemas/ChatRequest"}
        self.assertFalse(self.validator(schema).is_valid(wrong), "the document knows the limit too")

    def test_the_model_folder_is_named_in_full(self):
        """Where the server was started is no business of a client that loads the tokenizer."""
        folder = json.loads(self.fetch("/v1/models")[1])["data"][0]["root"]
        self.assertTrue(os.path.exists(os.path.join(folder, "tokenizer_config.json")), folder)
        server = servers.fable(model=os.path.relpath(folder))
        with urllib.request.urlopen(server.url + "/v1/models", timeout=60) as answer:
            self.assertEqual(json.load(answer)["data"][0]["root"], folder)
        self.assertEqual(server.stop(), 0)

    def test_events_are_as_described(self):
        for path, schema, body in (
            ("/v1/chat/completions", "ChatChunk", {"messages": STORY}),
            ("/v1/completions", "Completion", {"prompt": "Once"}),
        ):
            body = {**body, "max_tokens": 5, "stream": True, "stream_options": {"include_usage": True}}
            status, text = self.fetch(path, body)
            self.assertEqual(status, 200)
            events = text.split("\n\n")
            self.assertEqual(events[-2:], ["data: [DONE]", ""])
            for event in events[:-2]:
                chunk = json.loads(event.removeprefix("data: "))
                self.validator({"$ref": f"#/components/schemas/{schema}"}).validate(chunk)


if __name__ == "__main__":
    unittest.main()
