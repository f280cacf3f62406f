"""Completion for zsh, which has one of its own for twistd: that knows our commands and options too."""

import re
import shlex
from collections.abc import Iterable

from udpservices.man import declared
from udpservices.man.declared import Command, Kind, Option, headline

_ZSH = """\
#compdef udpservices
# zsh completion for udpservices. zsh has its own for twistd and twist, which knows the commands as well.

_udpservices() {{
    local curcontext=$curcontext state
    local -a line commands
    commands=(
{names}
    )
    _arguments -C \\
{first} \\
        '1:command:->command' '*::options:->options'
    case $state in
        command) _describe -t commands command commands ;;
        options)
            case $line[1] in
{commands}
            esac
            ;;
    esac
}}

if [[ $funcstack[1] == _udpservices ]]; then
    _udpservices "$@"
else
    compdef _udpservices udpservices
fi
"""

_ACTIONS = {
    Kind.FILE: "_files",
    Kind.FOLDER: "_directories",
    Kind.USER: "_users",
    Kind.GROUP: "_groups",
    Kind.VALUE: " ",
}


def zsh() -> str:
    """For zsh 5, as a function for a folder of its $fpath, or to be evaluated."""
    everything = declared.everything()
    named = [f"{command.name}:{headline(command.description)}" for command in everything.commands]
    return _ZSH.format(
        names="\n".join(f"        {shlex.quote(name)}" for name in named),
        first=" \\\n".join(f"        {spec}" for option in everything.first for spec in _specs(option)),
        commands="\n".join(_case(command) for command in everything.commands),
    )


def _case(command: Command) -> str:
    specs = [spec for option in declared.with_runner(command) for spec in _specs(option)]
    if command.words:
        specs.append(f"'*:word:({' '.join(command.words)})'")
    if not specs:
        return f"                {command.name}) _message 'no more options' ;;"
    lines = " \\\n".join(f"                        {spec}" for spec in specs)
    return f"                {command.name})\n                    _arguments \\\n{lines}\n                    ;;"


def _specs(option: Option) -> Iterable[str]:
    """An option of ``_arguments``; it may come again, as some may."""
    text = re.sub(r"([\[\]:\\])", r"\\\1", option.headline)
    action = f"({' '.join(option.values)})" if option.values else _ACTIONS[option.kind or Kind.VALUE]
    for spelled in option.spelled:
        joined = ("=" if spelled.startswith("--") else "+") if option.kind else ""
        value = f":{option.metavar.lower()}:{action}" if option.kind else ""
        yield shlex.quote(f"*{spelled}{joined}[{text}]{value}")
