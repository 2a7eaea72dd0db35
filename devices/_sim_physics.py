"""How the simulated rover moves: a pure step from one state to the next. It keeps doing what it was last told.

Two driven wheels: `throttle` asks for a speed, `steer` for a turn (to the right above 0), and mass makes both follow with delay.
"""

from __future__ import annotations

__all__ = [
    "MAX_STEP_S",
    "PAN_DEG",
    "TILT_DEG",
    "TOP_SPEED",
    "TURN_RATE",
    "State",
    "begin",
    "range_ahead",
    "step",
    "steps",
]

import math
from dataclasses import dataclass, replace

from edgeagent_devices._sim_map import RADIUS, Ground

TOP_SPEED = 1.6
"""m/s."""
TURN_RATE = 2.2
"""rad/s at full steering."""
PAN_DEG, TILT_DEG = 100.0, 30.0
"""How far the camera's mast turns to either side, and up and down."""
MAX_STEP_S = 0.02
RANGE_M = 4.0
"""How far the distance sensor sees."""

_ACCELERATION, _BRAKES, _HARD_BRAKES = 2.4, 4.0, 10.0  # m/s²
_TURN_ACCELERATION, _TURN_HARD = 14.0, 40.0  # rad/s²
_SERVO_DEG_S = 220.0
_REACH = 0.6  # of a target's middle
_PAD = 0.6
_IDLE_DRAIN, _DRIVE_DRAIN, _CHARGE = 0.005, 0.05, 8.0  # % a second
_BUMP_SPEED, _BUMP_PAUSE_S = 0.2, 0.3
_SONAR = (-0.15, 0.0, 0.15)


@dataclass(frozen=True, slots=True)
class State:
    """The rover at one instant.

    Attributes:
        at: Time in seconds, of any origin.
        x: Metres.
        y: Metres.
        heading: Radians, counter-clockwise from x.
        speed: m/s along the heading, below 0 backwards.
        turn: rad/s, counter-clockwise.
        throttle: As last told, -1 to 1.
        steer: As last told, -1 to 1, above 0 to the right.
        braking: Whether it was told to stop, and not to move since.
        pan: Where the mast looks, degrees to the right.
        tilt: Degrees up.
        pan_to: Where it was told to look.
        tilt_to: The same.
        battery: Percent.
        drain: How much faster than usual the battery empties.
        bumps: How often it ran into something.
        bumped_at: When it last did; minus infinity before.
        reached: Numbers of the targets that it reached, in that order.
        charging: Whether it stands on its pad.
    """

    at: float
    x: float
    y: float
    heading: float = 0.0
    speed: float = 0.0
    turn: float = 0.0
    throttle: float = 0.0
    steer: float = 0.0
    braking: bool = True
    pan: float = 0.0
    tilt: float = 0.0
    pan_to: float = 0.0
    tilt_to: float = 0.0
    battery: float = 100.0
    drain: float = 1.0
    bumps: int = 0
    bumped_at: float = -math.inf
    reached: tuple[int, ...] = ()
    charging: bool = False

    @property
    def still(self) -> bool:
        """Whether nothing moves, nor will without a new command."""
        return (
            not (self.speed or self.turn or self.throttle or self.steer)
            and (self.pan, self.tilt) == (self.pan_to, self.tilt_to)
            and not (self.charging and self.battery < 100)
        )


def begin(ground: Ground, at: float, drain: float = 1.0) -> State:
    """A fresh rover on its pad."""
    x, y = ground.start
    return State(at, x, y, drain=drain)


def steps(ground: Ground, state: State, until: float) -> State:
    """The state at a later instant, in as many steps as that takes; one that stands still takes one, however long."""
    while until > state.at:
        rest = until - state.at
        state = step(ground, state, rest if state.still else min(rest, MAX_STEP_S))
        if state.at + 1e-9 >= until:  # what rounding leaves
            return replace(state, at=until)
    return state


def step(ground: Ground, state: State, dt: float) -> State:
    """The state `dt` seconds later; for one that moves at most `MAX_STEP_S`."""
    power = state.battery > 0
    speed_to = state.throttle * TOP_SPEED if power else 0.0
    turn_to = -state.steer * TURN_RATE if power else 0.0
    faster = abs(speed_to) > abs(state.speed) and speed_to * state.speed >= 0
    force = _HARD_BRAKES if state.braking else _ACCELERATION if faster else _BRAKES
    speed = _towards(state.speed, speed_to, force * dt)
    turn = _towards(state.turn, turn_to, (_TURN_HARD if state.braking else _TURN_ACCELERATION) * dt)
    heading = state.heading + (state.turn + turn) / 2 * dt
    way = (state.speed + speed) / 2 * dt
    middle = (state.heading + heading) / 2
    x, y, free = _slide(ground, state.x, state.y, way * math.cos(middle), way * math.sin(middle))
    bumps, bumped_at = state.bumps, state.bumped_at
    if free < 1.0:
        if abs(speed) * (1 - free) > _BUMP_SPEED and state.at - bumped_at > _BUMP_PAUSE_S:
            bumps, bumped_at = bumps + 1, state.at + dt
        speed *= free
    charging = not abs(speed) > 0.05 and math.dist((x, y), ground.start) < _PAD
    drain = _IDLE_DRAIN + _DRIVE_DRAIN * (abs(speed) / TOP_SPEED + 0.4 * abs(turn) / TURN_RATE)
    battery = state.battery + (_CHARGE if charging else -drain * state.drain) * dt
    reached = state.reached + tuple(
        number
        for number, target in enumerate(ground.targets, 1)
        if number not in state.reached and math.dist((x, y), target) < _REACH
    )
    return replace(
        state,
        at=state.at + dt,
        x=x,
        y=y,
        heading=heading % math.tau,
        speed=speed,
        turn=turn,
        pan=_towards(state.pan, state.pan_to, _SERVO_DEG_S * dt),
        tilt=_towards(state.tilt, state.tilt_to, _SERVO_DEG_S * dt),
        battery=min(100.0, max(0.0, battery)),
        bumps=bumps,
        bumped_at=bumped_at,
        reached=reached,
        charging=charging,
    )


def range_ahead(ground: Ground, state: State) -> float:
    """What the distance sensor at the front tells: metres to the nearest thing in a narrow cone, at most `RANGE_M`."""
    limit = RANGE_M + RADIUS
    return max(0.0, min(ground.look(state.x, state.y, state.heading + angle, limit) for angle in _SONAR) - RADIUS)


def _towards(value: float, goal: float, most: float) -> float:
    return goal if abs(goal - value) <= most else value + math.copysign(most, goal - value)


def _slide(ground: Ground, x: float, y: float, dx: float, dy: float) -> tuple[float, float, float]:
    """Move, sliding along what is in the way: the new place, and the share of the way that was free."""
    way = math.hypot(dx, dy)
    if not way:
        return x, y, 1.0
    if _fits(ground, x + dx, y + dy):
        return x + dx, y + dy, 1.0
    new_x, new_y = x + dx, y + dy
    for _ in range(3):  # out of one, perhaps into its neighbour
        new_x = min(max(new_x, RADIUS), ground.width - RADIUS)
        new_y = min(max(new_y, RADIUS), ground.depth - RADIUS)
        for box in ground.boxes:
            near_x, near_y = min(max(new_x, box.left), box.right), min(max(new_y, box.bottom), box.top)
            away = math.dist((near_x, near_y), (new_x, new_y))
            if 0 < away < RADIUS:
                new_x += (new_x - near_x) / away * (RADIUS - away)
                new_y += (new_y - near_y) / away * (RADIUS - away)
    gone = math.dist((x, y), (new_x, new_y))
    if gone > way or not _fits(ground, new_x, new_y):  # an edge too sharp for sliding: stay
        return x, y, 0.0
    return new_x, new_y, min(1.0, max(0.0, ((new_x - x) * dx + (new_y - y) * dy) / way**2))


def _fits(ground: Ground, x: float, y: float) -> bool:
    return ground.clearance(x, y) >= RADIUS - 1e-9
