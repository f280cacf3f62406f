"""All targets, by name."""

from tests.fuzz import Target, datagrams, texts

TARGETS: dict[str, Target] = {**texts.TARGETS, **datagrams.TARGETS}
