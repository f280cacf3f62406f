"""Keys of a configuration file: each is an option without its dashes, which the command itself reads."""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from twisted.python.usage import UsageError

from udpservices.options import DrainOptions, Mistakes, ProcessOptions, ServiceOptions
from udpservices.services.spelling import spelled
from udpservices.units import nearest, one_line

#: What stands above the first table.
OF_PROCESS = {option.rstrip("=") for option in ProcessOptions().longOpt} - ServiceOptions.of_command_line


class Keys:
    """The keys of one table."""

    def __init__(self, make: Callable[[], Any], name: str) -> None:
        """`make` makes the options of the table's command, whose name is `name`. What it raises goes through."""
        self._make = make
        self._name = name
        #: What `read` fills.
        self.options = make()
        self._of_command_line = getattr(self.options, "of_command_line", ServiceOptions.of_command_line)
        takes_value = {option.rstrip("="): option.endswith("=") for option in self.options.longOpt}
        not_here = self._of_command_line | self._not_here()
        self._takes_value = {key: takes for key, takes in takes_value.items() if key not in not_here}

    def _not_here(self) -> set[str]:
        return OF_PROCESS if isinstance(self.options, DrainOptions) else set()

    def read(self, content: dict[str, Any]) -> None:
        """Set the options as the keys say. Raises Mistakes for what is wrong with each key, or with all together."""
        try:
            self.options.parseOptions([word for key, value in content.items() for word in self._words(key, value)])
        except (SystemExit, UsageError, ValueError) as error:  # the first mistake: each key is now tried alone
            wrong = [why for key, value in content.items() for why in self._wrong(key, value)]
            raise Mistakes(wrong or [self.says(folded(error))]) from error

    def says(self, why: str) -> str:
        """An error about all keys together."""
        return f"[{self._name}]: {why}"

    def _says_of(self, key: str, value: Any, why: str) -> str:
        return f"[{self._name}] {key} = {spelled(value)}: {why}"

    def _words(self, key: str, value: Any) -> Iterator[str]:
        """The words of a command line that do what a key does. Raises ValueError."""
        for one in self._values(key, value):
            yield from self._word(key, one)

    def _wrong(self, key: str, value: Any) -> Iterator[str]:
        """What is wrong with a key, whatever the others are; of a list each value is tried."""
        try:
            values = self._values(key, value)
        except ValueError as error:
            yield str(error)
            return
        for one in values:
            try:
                words = list(self._word(key, one))
            except ValueError as error:
                yield str(error)
                continue
            try:
                self._make().parseOptions(words)
            except (SystemExit, UsageError, ValueError) as error:
                yield from self._blamed(str(error), key, one)

    def _blamed(self, error: str, key: str, value: Any) -> Iterator[str]:
        """An error of the command line in the words of the file, unless it is about a key that is not there."""
        word = str(value)
        ours = f"--{key} {one_line(word or repr(word))}: "
        if error.startswith(ours):
            yield self._says_of(key, value, error.removeprefix(ours))
        elif error.startswith("Parameter type enforcement failed: "):  # Twisted's words, which do not say of what
            yield self._says_of(key, value, error)

    def _values(self, key: str, value: Any) -> list[Any]:
        """The values that an option gets, one after the other. Raises ValueError."""
        if isinstance(value, dict):
            raise ValueError(nested(self._name, key))
        if key not in self._takes_value:
            raise ValueError(self._unknown(key, value))
        if not isinstance(value, list):
            return [value]
        if key in self.options.defaults:  # whoever repeats has a method instead
            raise ValueError(self._says_of(key, value, "must be one value, not a list"))
        if not value:
            nobody = key in ("allow", "allow-file")  # which must not come to serve everybody
            why = "allows nobody: leave it out to serve everybody" if nobody else "is empty: leave the key out"
            raise ValueError(self._says_of(key, value, why))
        return value

    def _unknown(self, key: str, value: Any) -> str:
        if key in OF_PROCESS:
            return self._says_of(key, value, "is a key of the whole file: write it above the first table")
        if key in self._of_command_line:
            return self._says_of(key, value, "is for the command line alone")
        return self.says(f"there is no key {key!r}{did_you_mean(key, self._takes_value)}")

    def _word(self, key: str, value: Any) -> Iterator[str]:
        """What stands on the command line for one value, if anything. Raises ValueError."""
        if not self._takes_value[key]:
            if not isinstance(value, bool):
                raise ValueError(self._says_of(key, value, "must be true or false"))
            if value:
                yield f"--{key}"
            return
        if isinstance(value, bool) or not isinstance(value, str | int):
            raise ValueError(self._says_of(key, value, "must be a text or a number, or a list of them"))
        try:
            word = str(value)
        except ValueError as error:  # a number of thousands of digits
            raise ValueError(self._says_of(key, value, str(error))) from error
        yield f"--{key}={word}"


class KeysAbove(Keys):
    """The keys above the first table, which hold for the whole process."""

    def __init__(self) -> None:
        super().__init__(ProcessOptions, "")

    def _not_here(self) -> set[str]:
        return set()

    def says(self, why: str) -> str:
        """As a table has it, without its name."""
        return why

    def _says_of(self, key: str, value: Any, why: str) -> str:
        return f"{key} = {spelled(value)}: {why}"

    def _unknown(self, key: str, value: Any) -> str:
        return f"{key} stands outside of any table: write [NAME] above it{did_you_mean(key, OF_PROCESS)}"


def nested(table: str, key: str) -> str:
    """An error about a table in a table."""
    return f'[{table}] {key}: is a table in a table; a name with a dot is quoted, ["{table}.{key}"]'


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint where one of those that are known is near."""
    near = nearest(name, known)
    return f": did you mean {near!r}?" if near else ""


def folded(error: BaseException) -> str:
    """The text of an error, whose lines become one."""
    return " ".join(str(error).split())
