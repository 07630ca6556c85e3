"""The contract's own formats, for a generator that does not know them."""

import schemathesis
from hypothesis import strategies

# What `display-name` takes in any writing, at the least: printable ASCII that is not all spaces.
names = strategies.text(strategies.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=64).filter(str.strip)
schemathesis.openapi.format("display-name", names)
