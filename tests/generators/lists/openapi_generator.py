"""Every module of the client that openapi-generator wrote, and the agents that it lists: BASE KEY NAME…"""

import importlib
import json
import pkgutil
import sys

import generated

base, key, *names = sys.argv[1:]
for module in pkgutil.walk_packages(generated.__path__, "generated."):
    importlib.import_module(module.name)


def agents(key):
    return generated.AgentsApi(generated.ApiClient(generated.Configuration(host=base, access_token=key)))


answer = agents(key).list_agents(limit=100)
assert sorted(it.name for it in answer.data) == sorted(names), answer
try:
    agents("flowyte_sk_none").list_agents()
except generated.ApiException as refusal:
    assert (refusal.status, json.loads(refusal.body)["code"]) == (401, "invalid_credential"), refusal
else:
    raise AssertionError("an unknown key was taken")
