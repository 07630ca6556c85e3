"""Every module of the client that openapi-python-client wrote, and the agents that it lists: BASE KEY NAME…"""

import importlib
import pkgutil
import sys

import generated
from generated.api.agents import list_agents

base, key, *names = sys.argv[1:]
for module in pkgutil.walk_packages(generated.__path__, "generated."):
    importlib.import_module(module.name)
answer = list_agents.sync(client=generated.AuthenticatedClient(base_url=base, token=key), limit=100)
assert sorted(it.name for it in answer.data) == sorted(names), answer
refusal = list_agents.sync(client=generated.AuthenticatedClient(base_url=base, token="flowyte_sk_none"))
assert (refusal.status, refusal.code.value) == (401, "invalid_credential"), refusal
