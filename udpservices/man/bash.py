"""Completion for bash: a text that needs no Python while somebody types."""

import shlex
from collections.abc import Iterable

from udpservices.man import declared
from udpservices.man.declared import Command, Kind, Option
from udpservices.man.fish import TWISTED

_BASH = """\
# bash completion for udpservices, and for its commands under twistd and twist.

_udpservices() {{
    local current=${{COMP_WORDS[COMP_CWORD]}} before=${{COMP_WORDS[COMP_CWORD - 1]}} command= words= more= index
    if [[ $current == = ]]; then
        current=
    elif [[ $before == = ]]; then
        before=${{COMP_WORDS[COMP_CWORD - 2]}}
    fi
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${{COMP_WORDS[index]}} in
            {names})
                command=${{COMP_WORDS[index]}}
                break
                ;;
        esac
    done
    case $before in
{values}
    esac
    case $command in
{commands}
    esac
    [[ ${{COMP_WORDS[0]}} != *twist* ]] || more=
    COMPREPLY=($(compgen -W "$words $more" -- "$current"))
}}

_udpservices_of_twisted() {{
    local index
    for ((index = 1; index < COMP_CWORD; index++)); do
        case ${{COMP_WORDS[index]}} in
            {services})
                _udpservices
                return
                ;;
        esac
    done
    COMPREPLY=($(compgen -W {service_words} -- "${{COMP_WORDS[COMP_CWORD]}}"))
}}

complete -F _udpservices udpservices
complete -o bashdefault -o default -F _udpservices_of_twisted {twisted}
"""

_ACTIONS = {
    Kind.FILE: 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -f -- "$current"))',
    Kind.FOLDER: 'compopt -o filenames 2>/dev/null; COMPREPLY=($(compgen -d -- "$current"))',
    Kind.USER: 'COMPREPLY=($(compgen -u -- "$current"))',
    Kind.GROUP: 'COMPREPLY=($(compgen -g -- "$current"))',
    Kind.VALUE: ":",
}


def bash() -> str:
    """For bash 4 or later, with or without the package bash-completion."""
    everything = declared.everything()
    commands = (*everything.commands, everything.bundle)
    served = " ".join(command.name for command in commands if command.serves)
    first = shlex.quote(" ".join([*(command.name for command in everything.commands), *_spelled(everything.first)]))
    return _BASH.format(
        names=" | ".join(command.name for command in commands),
        services=served.replace(" ", " | "),
        service_words=shlex.quote(served),
        values="\n".join(_values(commands)),
        commands="\n".join([*map(_case, commands), f'        "") words={first} ;;']),
        twisted=" ".join(TWISTED),
    )


def _case(command: Command) -> str:
    words = shlex.quote(" ".join([*_spelled(command.options), *command.words]))
    more = shlex.quote(" ".join(_spelled(declared.runner_alone(command))))
    return f"        {command.name}) words={words} more={more} ;;"


def _values(commands: Iterable[Command]) -> Iterable[str]:
    """What completes each value; an option of one name is of one kind wherever it is."""
    spelled: dict[str, list[str]] = {}
    for option in (option for command in commands for option in declared.with_runner(command)):
        if option.kind is not None:
            action = _ACTIONS[option.kind]
            if option.values:
                action = f'COMPREPLY=($(compgen -W {shlex.quote(" ".join(option.values))} -- "$current"))'
            spelled.setdefault(action, []).extend(option.spelled)
    for action, options in spelled.items():
        yield f"        {' | '.join(dict.fromkeys(options))})\n            {action}\n            return\n            ;;"


def _spelled(options: Iterable[Option]) -> list[str]:
    return [option.spelled[0] for option in options]
