"""What the interpreter reports of a day while it is run: objects out of pickles, processes, ways out."""

from __future__ import annotations

from dataclasses import dataclass, field

from flows.house import House

#: Events of the interpreter (PEP 578): an object that a pickle names, a process, a way out of the machine.
WATCHED = {"pickle.find_class", "os.system", "subprocess.Popen", "socket.connect", "socket.getaddrinfo"}


@dataclass
class Watch:
    """What happened while it was on; a hook cannot be taken away again, only be told to look away."""

    on: bool = False
    seen: list[str] = field(default_factory=list)

    def __call__(self, event: str, told: tuple[object, ...]) -> None:
        if self.on and event in WATCHED:
            self.seen.append(f"{event} {told}")


@dataclass(frozen=True)
class Watched:
    """A house with its first day, and what the interpreter reported while that day was run."""

    house: House
    seen: tuple[str, ...]
