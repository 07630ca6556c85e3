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
    chunks = list(client.chat.completions.create(model=agent, messages=ASKED, stream=True))
    assert "".join(it.choices[0].delta.content or "" for it in chunks) == ANSWER, chunks
    assert chunks[0].choices[0].delta.role == "assistant" and chunks[-1].choices[0].finish_reason == "stop", chunks
    refusals = {
        openai.NotFoundError: (404, "not_found", lambda: client.chat.completions.create(model="gpt-4", messages=ASKED)),
        openai.ConflictError: (409, "no_published_version", lambda: client.chat.completions.create(model=unpublished, messages=ASKED)),
        openai.BadRequestError: (400, "validation_error", lambda: client.chat.completions.create(model=agent, messages=ASKED, temperature=1)),
        openai.AuthenticationError: (
            401,
            "invalid_credential",
            lambda: client.with_options(api_key="sk-none").chat.completions.create(model=agent, messages=ASKED),
        ),
    }
    for kind, (status, code, ask) in refusals.items():
        try:
            ask()
        except kind as refusal:
            assert (refusal.status_code, refusal.code) == (status, code), refusal
            assert len(str(refusal)) > 20, refusal
        else:
            raise AssertionError(f"{code} was not raised")


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
            print("the client for Python reads answers, streams and refusals", flush=True)
            subprocess.run(["node", str(HERE / "client.mjs"), product.api, key, agent, unpublished], check=True)
            print("the client for Node reads answers, streams and refusals", flush=True)
        finally:
            product.process.send_signal(signal.SIGKILL)
            product.process.wait()


main()
