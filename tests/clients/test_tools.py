"""Tools, thoughts and retries: answers written in advance, through the real engine, parser and HTTP."""

import json
import unittest

import openai

import servers

WEATHER = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string"}, "days": {"type": "integer"}},
            "required": ["city"],
        },
    },
}

USER_TURN = "<|turn>user\n"
MODEL_TURN = "<turn|>\n<|turn>model\n"
NO_THOUGHT = "<|channel>thought\n<channel|>"  # how a prompt says that thinking is off
CALL = '<|tool_call>call:get_weather{city:<|"|>Oslo<|"|>,days:3}<tool_call|>'
SCRIPT = [
    {
        "after": USER_TURN + "Is it raining in Oslo?" + MODEL_TURN + NO_THOUGHT,
        "say": f"I look.{CALL}<|tool_response>",
    },
    {
        "after": '<|tool_response>response:get_weather{value:<|"|>rain: 3 mm<|"|>}<tool_response|>'
        + "I look."
        + MODEL_TURN
        + NO_THOUGHT,
        "say": "It rains a little.<turn|>",
    },
    {"after": USER_TURN + "Two cities." + MODEL_TURN + NO_THOUGHT, "say": f"{CALL}{CALL}<|tool_response>"},
    {
        "after": USER_TURN + "Think first." + MODEL_TURN,
        "say": "<|channel>thought\nLet me see.\n<channel|>Done.<turn|>",
    },
    {"after": USER_TURN + "Say it." + MODEL_TURN + NO_THOUGHT, "say": "It is said.<turn|>"},
]


class Tools(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.server = servers.scripted(SCRIPT)
        cls.client = openai.OpenAI(base_url=cls.server.url + "/v1", api_key="any", max_retries=0)

    @classmethod
    def tearDownClass(cls):
        assert cls.server.stop() == 0, "".join(cls.server.log)

    def create(self, text, **fields):
        return self.client.chat.completions.create(
            model="scripted", messages=[{"role": "user", "content": text}], **fields
        )

    def check_call(self, call):
        self.assertEqual(call.function.name, "get_weather")
        self.assertEqual(json.loads(call.function.arguments), {"city": "Oslo", "days": 3})
        self.assertRegex(call.id, r"^call_[A-Za-z0-9]{24}$")

    def test_round_trip(self):
        messages = [{"role": "user", "content": "Is it raining in Oslo?"}]
        first = self.client.chat.completions.create(
            model="scripted", messages=messages, tools=[WEATHER]
        )
        choice = first.choices[0]
        self.assertEqual(choice.finish_reason, "tool_calls")
        self.assertEqual(choice.message.content, "I look.")
        self.check_call(choice.message.tool_calls[0])
        messages.append(choice.message)
        messages.append(
            {
                "role": "tool",
                "tool_call_id": choice.message.tool_calls[0].id,
                "content": "rain: 3 mm",
            }
        )
        second = self.client.chat.completions.create(
            model="scripted", messages=messages, tools=[WEATHER]
        )
        self.assertEqual(second.choices[0].message.content, "It rains a little.")
        self.assertEqual(second.choices[0].finish_reason, "stop")

    def test_accumulator(self):
        with self.client.chat.completions.stream(
            model="scripted",
            messages=[{"role": "user", "content": "Two cities."}],
            tools=[WEATHER],
            n=2,
        ) as stream:
            for _ in stream:
                pass
            final = stream.get_final_completion()
        for choice in final.choices:
            self.assertEqual(choice.finish_reason, "tool_calls")
            self.assertEqual(len(choice.message.tool_calls), 2)
            for call in choice.message.tool_calls:
                self.check_call(call)

    def test_one_call_only(self):
        answer = self.create("Two cities.", tools=[WEATHER], parallel_tool_calls=False)
        self.assertEqual(len(answer.choices[0].message.tool_calls), 1)

    def test_thoughts(self):
        answer = self.create("Think first.", extra_body={"reasoning_effort": "high"})
        message = answer.choices[0].message
        self.assertEqual(message.content, "Done.")
        self.assertEqual(message.reasoning_content, "Let me see.")
        self.assertEqual(message.reasoning, "Let me see.")
        self.assertGreater(answer.usage.completion_tokens_details.reasoning_tokens, 0)


class Retries(unittest.TestCase):
    def test_a_server_that_still_loads(self):
        server = servers.scripted(SCRIPT, "--load-seconds", "2", ready=False)
        try:
            patient = openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=8)
            hasty = openai.OpenAI(base_url=server.url + "/v1", api_key="any", max_retries=0)
            fields = {"model": "scripted", "messages": [{"role": "user", "content": "Say it."}]}
            with self.assertRaises(openai.InternalServerError) as caught:
                hasty.chat.completions.create(**fields)
            self.assertEqual(caught.exception.status_code, 503)
            self.assertEqual(caught.exception.code, "model_loading")
            answer = patient.chat.completions.create(**fields)
            self.assertEqual(answer.choices[0].message.content, "It is said.")
        finally:
            self.assertEqual(server.stop(), 0)


if __name__ == "__main__":
    unittest.main()
