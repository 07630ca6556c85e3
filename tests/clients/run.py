"""The official OpenAI clients for Python and Node against the binary: an agent is a model to them. What they read of an answer, of a
stream and of a refusal must be what an application would want to see.

Usage: cd tests/clients && npm ci; tools/node tools/python tests/clients/requirements.txt tests/clients/run.py
"""

import pathlib
import signal
import subprocess
import sys
import tempfile
import time

import openai
from langchain_openai import ChatOpenAI

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from product import Product  # noqa: E402

ASKED = [{"role": "system", "content": "Be brief."}, {"role": "assistant", "content": "Good day!"}, {"role": "user", "content": "When do you open?"}]
ANSWER = "We open at nine."


def python(base, key, agent, unpublished):
    client = openai.OpenAI(base_url=base, api_key=key, max_retries=0)
    whole = client.chat.completions.create(model=agent, messages=ASKED, user="visitor-1")
    assert whole.object == "chat.completion" and whole.model == agent, whole
    assert whole.choices[0].message.content == ANSWER and whole.choices[0].finish_reason == "stop", whole
    assert (whole.usage.prompt_tokens, whole.usage.completion_tokens, whole.usage.total_tokens) == (8, 4, 12), whole
    # What OpenAI's own documentation sends besides: used, or passed over where that does no harm.
    more = {
        "temperature": 0.1, "top_p": 0.9, "n": 1, "seed": 7, "presence_penalty": 0, "store": False, "metadata": {"a": "b"},
        "tools": [{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}], "tool_choice": "auto",
        "response_format": {"type": "text"}, "extra_body": {"a_field_of_next_year": 1, "logprobs": False, "max_tokens": None},
    }
    said = [{"role": "developer", "content": "Be brief."}, {"role": "user", "name": "ada", "content": "Anything else?"},
            {"role": "assistant", "content": None, "tool_calls": [{"id": "c1", "type": "function", "function": {"name": "look", "arguments": "{}"}}]},
            {"role": "tool", "tool_call_id": "c1", "content": "nothing"}, *ASKED]
    whole = client.chat.completions.create(model=agent, messages=said, **more)
    assert whole.choices[0].message.content == ANSWER, whole
    for limit, text, reason in [
        ({"max_tokens": 2}, "We open ", "length"), ({"max_completion_tokens": 4}, ANSWER, "stop"),
        ({"stop": " at"}, "We open", "stop"), ({"stop": ["nine", "open"]}, "We ", "stop"),
    ]:
        choice = client.chat.completions.create(model=agent, messages=ASKED, **limit).choices[0]
        assert (choice.message.content, choice.finish_reason) == (text, reason), (limit, choice)
    for field, value in {
        "n": 2, "logprobs": True, "logit_bias": {"50256": -100}, "response_format": {"type": "json_object"}, "modalities": ["text", "audio"],
        "tool_choice": "required", "function_call": {"name": "look"}, "temperature": 3, "stop": ["a"] * 5, "web_search_options": {},
    }.items():
        try:
            client.chat.completions.create(model=agent, messages=ASKED, extra_body={field: value})
        except openai.BadRequestError as refusal:
            assert (refusal.code, refusal.param, refusal.type) == ("validation_error", f"/{field}", "invalid_request_error"), refusal
            assert f"/{field} " in refusal.message, refusal
        else:
            raise AssertionError(f"{field} was taken")
    models = client.models.list()
    assert [it.id for it in models] == [unpublished, agent] and models.data[0].object == "model", models
    assert client.models.retrieve(agent).id == agent
    usage = [it.usage for it in client.chat.completions.create(model=agent, messages=ASKED, stream=True, stream_options={"include_usage": True})]
    assert usage[-1].total_tokens == 12 and usage[:-1] == [None] * (len(usage) - 1), usage
    chunks = list(client.chat.completions.create(model=agent, messages=ASKED, stream=True))
    assert "".join(it.choices[0].delta.content or "" for it in chunks) == ANSWER, chunks
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].choices[0].finish_reason == "stop", chunks
    refusals = {
        openai.NotFoundError: (404, "not_found", lambda: client.chat.completions.create(model="gpt-4", messages=ASKED)),
        openai.ConflictError: (409, "no_published_version", lambda: client.chat.completions.create(model=unpublished, messages=ASKED)),
        openai.BadRequestError: (400, "validation_error", lambda: client.chat.completions.create(model=agent, messages=ASKED, n=2)),
        openai.AuthenticationError: (
            401,
            "invalid_credential",
            lambda: client.with_options(api_key="sk-none").chat.completions.create(model=agent, messages=ASKED),
        ),
    }
    refusals = [(kind, *it) for kind, it in refusals.items()] + [
        (openai.NotFoundError, 404, "not_found", lambda: client.models.retrieve("gpt-4")),
        (openai.AuthenticationError, 401, "invalid_credential", lambda: client.with_options(api_key="sk-none").models.list()),
    ]
    for kind, status, code, ask in refusals:
        try:
            ask()
        except kind as refusal:
            assert (refusal.status_code, refusal.code) == (status, code), refusal
            assert len(str(refusal)) > 20, refusal
        else:
            raise AssertionError(f"{code} was not raised")


def langchain(base, key, agent):
    chat = ChatOpenAI(base_url=base, api_key=key, model=agent, temperature=0.1, max_retries=0, stream_usage=True)
    whole = chat.invoke([("system", "Be brief."), ("ai", "Good day!"), ("human", "When do you open?")])
    assert whole.content == ANSWER and whole.usage_metadata["total_tokens"] == 12, whole
    chunks = list(chat.stream([("ai", "Good day!"), ("human", "When do you open?")]))
    assert "".join(it.content for it in chunks) == ANSWER and sum((it.usage_metadata or {}).get("output_tokens", 0) for it in chunks) == 4, chunks


def main():
    with tempfile.TemporaryDirectory() as folder:
        product = Product(folder)
        try:
            key = product.set_up()
            agent = product.call("/agents", {"name": "Front desk"})["id"]
            unpublished = product.call("/agents", {"name": "Draft"})["id"]
            product.call(f"/agents/{agent}/publish", {})
            source = {"kind": "faq", "label": "Opening hours", "text": "Q: When do you open?\nA: We open at nine."}
            source = product.call(f"/agents/{agent}/knowledge/sources", source)["id"]
            for _ in range(400):
                if product.call(f"/agents/{agent}/knowledge/sources/{source}")["status"] == "indexed":
                    break
                time.sleep(0.05)
            python(product.api, key, agent, unpublished)
            print("the client for Python reads answers, streams, models and refusals", flush=True)
            langchain(product.api, key, agent)
            print("LangChain reads answers and streams", flush=True)
            subprocess.run(["node", str(HERE / "client.mjs"), product.api, key, agent, unpublished], check=True)
            print("the client for Node reads answers, streams and refusals", flush=True)
        finally:
            product.process.send_signal(signal.SIGKILL)
            product.process.wait()


main()
