"""All targets, by name."""

from tests.fuzz import Target, answers, datagrams, texts

TARGETS: dict[str, Target] = {**texts.TARGETS, **datagrams.TARGETS, **answers.TARGETS}
