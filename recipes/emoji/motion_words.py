"""Motions as different people put them; see `sentences`. Verbs are pairs, as in "rises/rising"."""

from __future__ import annotations

from .wording import as_list


def _verbs(text: str) -> tuple[tuple[str, str], ...]:
    """(does, doing) of each verb."""
    return tuple(tuple(verb.split("/")) for verb in as_list(text))


MANNERS = as_list("slowly, quickly, gently, steadily, smoothly, happily, fast, at a steady pace, calmly, quietly")
PLAIN = {  # the plainest words
    "still": _verbs("stands still/standing still, does not move/not moving, stays still/staying still"),
    "left": _verbs("moves left/moving left, moves to the left/moving to the left, goes left/going left"),
    "right": _verbs("moves right/moving right, moves to the right/moving to the right, goes right/going right"),
    "up": _verbs("moves up/moving up, goes up/going up, rises/rising"),
    "down": _verbs("moves down/moving down, goes down/going down, sinks/sinking"),
}
GOING = _verbs(  # verbs that need a direction
    "moves/moving, goes/going, travels/travelling, travels/traveling, slides/sliding, heads/heading, "
    "drifts/drifting, glides/gliding, floats/floating, flies/flying, walks/walking, runs/running, swims/swimming, "
    "rolls/rolling, drives/driving, passes/passing, races/racing, hurries/hurrying, shifts/shifting, "
    "wanders/wandering, hops/hopping, crawls/crawling, jumps/jumping, strolls/strolling, steps/stepping, "
    "shoots/shooting, zooms/zooming, rushes/rushing, scrolls/scrolling, is moved/being moved, is pushed/being "
    "pushed, is pulled/being pulled, makes its way/making its way, sails/sailing, marches/marching, "
    "speeds/speeding, dashes/dashing, wiggles/wiggling, bounces/bouncing, creeps/creeping, trots/trotting"
)


def _sideways(side: str, other: str, compass: str) -> tuple[str, ...]:
    return (
        side,
        f"to the {side}",
        f"to the {side}",
        f"{side}ward",
        f"{side}wards",
        f"towards the {side}",
        f"toward the {side}",
        f"to the {side} side",
        f"to the {side} edge",
        f"towards the {side} side of the picture",
        f"from {other} to {side}",
        f"from the {other} to the {side}",
        f"from the {other} side to the {side} side",
        compass,
        f"{compass}ward",
        f"{compass}wards",
        f"to the {compass}",
        f"off to the {side}",
        f"across to the {side}",
        f"across the screen from {other} to {side}",
        f"to the {side}-hand side",
        f"over to the {side}",
    )


def _upright(way: str, end: str, start: str, compass: str) -> tuple[str, ...]:
    return (
        way,
        way,
        f"{way}ward",
        f"{way}wards",
        f"to the {end}",
        f"towards the {end}",
        f"toward the {end} of the picture",
        f"to the {end} of the screen",
        f"from {start} to {end}",
        f"from the {start} to the {end}",
        f"straight {way}",
        f"{way} the screen",
        compass,
        f"{compass}ward",
    )


WAYS = {
    "left": _sideways("left", "right", "west"),
    "right": _sideways("right", "left", "east"),
    "up": (*_upright("up", "top", "bottom", "north"), "higher", "into the air", "up into the sky", "skyward", "aloft"),
    "down": (*_upright("down", "bottom", "top", "south"), "lower", "to the ground", "down to the floor", "earthward"),
}
PHRASES = {  # what says its direction by itself
    "left": _verbs(
        "crosses from right to left/crossing from right to left, leaves to the left/leaving to the left, leaves on "
        "the left/leaving on the left, goes west/going west, heads west/heading west, turns left/turning left, "
        "exits left/exiting left, comes from the right/coming from the right, comes in from the right/coming in "
        "from the right, moves sideways to the left/moving sideways to the left"
    ),
    "right": _verbs(
        "crosses from left to right/crossing from left to right, leaves to the right/leaving to the right, leaves "
        "on the right/leaving on the right, goes east/going east, heads east/heading east, turns right/turning "
        "right, exits right/exiting right, comes from the left/coming from the left, comes in from the left/coming "
        "in from the left, moves sideways to the right/moving sideways to the right"
    ),
    "up": _verbs(
        "rises/rising, climbs/climbing, ascends/ascending, soars/soaring, lifts off/lifting off, takes off/taking "
        "off, levitates/levitating, floats up/floating up, flies up/flying up, gains height/gaining height, rises "
        "up/rising up, climbs up/climbing up, climbs higher/climbing higher, rises into the air/rising into the "
        "air, rises higher and higher/rising higher and higher, soars into the sky/soaring into the sky, leaves "
        "the ground/leaving the ground, blasts off/blasting off, launches into the air/launching into the air, "
        "goes to the top/going to the top, floats like a balloon/floating like a balloon, is lifted/being lifted, "
        "is raised/being raised, mounts/mounting, surfaces/surfacing, comes up from below/coming up from below, "
        "jumps up/jumping up, shoots up/shooting up, gets higher/getting higher, heads north/heading north, scales "
        "up the wall/scaling up the wall"
    ),
    "down": _verbs(
        "sinks/sinking, falls/falling, drops/dropping, descends/descending, dives/diving, plunges/plunging, "
        "plummets/plummeting, comes down/coming down, lands/landing, loses height/losing height, falls "
        "down/falling down, drops down/dropping down, dives down/diving down, tumbles down/tumbling down, falls to "
        "the ground/falling to the ground, sinks to the bottom/sinking to the bottom, touches down/touching down, "
        "is lowered/being lowered, nosedives/nosediving, dips/dipping, submerges/submerging, subsides/subsiding, "
        "sets/setting, goes under/going under, goes to the bottom/going to the bottom, comes in from above/coming "
        "in from above, falls from the sky/falling from the sky, climbs down/climbing down, gets lower/getting "
        "lower, heads south/heading south, descends to the floor/descending to the floor, slumps/slumping"
    ),
    "still": _verbs(
        "stands still/standing still, stays still/staying still, does not move/not moving, doesn't move/not moving "
        "at all, keeps still/keeping still, sits still/sitting still, sits quietly/sitting quietly, sits "
        "there/sitting there, sits/sitting, stands/standing, stands there/standing there, stands quietly/standing "
        "quietly, waits/waiting, waits patiently/waiting patiently, rests/resting, is at rest/at rest, stays "
        "put/staying put, stays in place/staying in place, stays where it is/staying where it is, remains in "
        "place/remaining in place, remains motionless/remaining motionless, is motionless/motionless, holds "
        "still/holding still, is stationary/stationary, is standing still/which is standing still, poses/posing, "
        "hovers in place/hovering in place, hangs motionless/hanging motionless, is frozen/frozen in place, goes "
        "nowhere/going nowhere, stays in the middle/staying in the middle, stays in the same place/staying in the "
        "same spot, idles/idling, lies still/lying still, sleeps/sleeping, relaxes/relaxing, is parked/parked, "
        "never moves/never moving, pauses/pausing, stops/stopping, calmly stays/calmly staying"
    ),
}
LOOSE = {  # said beside the sentence
    "still": as_list(
        "nothing moves, no motion, without moving, no movement, motionless, stationary, static, at rest, standing "
        "still, completely still, it does not move, it stays where it is, still, like a statue, nothing happens, a "
        "still shot, without any movement, immobile, unmoving"
    ),
    "left": as_list(
        "leftwards, to the left, going left, it moves left, motion to the left, from right to left, westwards, "
        "leftward motion, left, it goes to the left, towards the left, heading left"
    ),
    "right": as_list(
        "rightwards, to the right, going right, it moves right, motion to the right, from left to right, "
        "eastwards, rightward motion, right, it goes to the right, towards the right, heading right"
    ),
    "up": as_list(
        "upwards, up, going up, it moves up, upward motion, from bottom to top, rising, ascending, it rises, "
        "skywards, it climbs, it takes off, heading up, higher and higher"
    ),
    "down": as_list(
        "downwards, down, going down, it moves down, downward motion, from top to bottom, falling, descending, it "
        "falls, it sinks, it drops, it dives, heading down, lower and lower"
    ),
}
