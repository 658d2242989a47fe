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
    "moves/moving, goes/going, travels/travelling, travels/traveling, slides/sliding, heads/heading, drifts/drifting, "
    "glides/gliding, floats/floating, flies/flying, walks/walking, runs/running, swims/swimming, rolls/rolling, "
    "drives/driving, passes/passing, races/racing, hurries/hurrying, shifts/shifting, wanders/wandering, "
    "hops/hopping, crawls/crawling, jumps/jumping, strolls/strolling, steps/stepping, shoots/shooting, zooms/zooming, "
    "rushes/rushing, scrolls/scrolling, is moved/being moved, is pushed/being pushed, is pulled/being pulled, makes "
    "its way/making its way, sails/sailing, marches/marching, speeds/speeding, dashes/dashing, wiggles/wiggling, "
    "bounces/bouncing, creeps/creeping, trots/trotting, ambles/ambling, saunters/sauntering, trundles/trundling, "
    "scurries/scurrying, scampers/scampering, scuttles/scuttling, shuffles/shuffling, waddles/waddling, "
    "gallops/galloping, jogs/jogging, sprints/sprinting, skips/skipping, skates/skating, slithers/slithering, "
    "sneaks/sneaking, tiptoes/tiptoeing, struts/strutting, stumbles/stumbling, paddles/paddling, zips/zipping, "
    "whizzes/whizzing, whooshes/whooshing, cruises/cruising, coasts/coasting, charges/charging, darts/darting, "
    "bolts/bolting, flits/flitting, flutters/fluttering, buzzes/buzzing, streaks/streaking, sweeps/sweeping, "
    "trudges/trudging, plods/plodding, prowls/prowling, strides/striding, tramps/tramping, treks/trekking, "
    "journeys/journeying, proceeds/proceeding, progresses/progressing, advances/advancing, moves along/moving along, "
    "moves over/moving over, scoots/scooting, skids/skidding, slips/slipping, swings/swinging, tumbles/tumbling, "
    "wades/wading, whirls/whirling, wobbles/wobbling, winds its way/winding its way, works its way/working its way, "
    "finds its way/finding its way, edges/edging, inches/inching, lumbers/lumbering, lopes/loping, "
    "meanders/meandering, migrates/migrating, navigates/navigating, paces/pacing, parades/parading, "
    "potters/pottering, prances/prancing, roams/roaming, rambles/rambling, roves/roving, shambles/shambling, "
    "staggers/staggering, steams/steaming, steers/steering, storms/storming, streams/streaming, surges/surging, "
    "swaggers/swaggering, swerves/swerving, swirls/swirling, tears/tearing, thunders/thundering, totters/tottering, "
    "tours/touring, trails/trailing, veers/veering, ventures/venturing, voyages/voyaging, waltzes/waltzing, "
    "wriggles/wriggling, worms its way/worming its way, blasts/blasting, careers/careering, dances/dancing, "
    "escapes/escaping, flees/fleeing, hastens/hastening, hikes/hiking, hurtles/hurtling, keeps going/keeping going, "
    "leaps/leaping, launches itself/launching itself, lurches/lurching, ploughs/ploughing, pushes on/pushing on, "
    "retreats/retreating, returns/returning, rides/riding, sidles/sidling, skims/skimming, bounds/bounding, "
    "jets/jetting, blows/blowing, bobs/bobbing, canters/cantering, chugs/chugging, circles/circling, "
    "clambers/clambering, clatters/clattering, conveys/conveying, cycles/cycling, dawdles/dawdling, drags/dragging, "
    "flounces/flouncing, flings itself/flinging itself, flows/flowing, flies along/flying along, frolics/frolicking, "
    "goose-steps/goose-stepping, hobbles/hobbling, jaunts/jaunting, jolts/jolting, leads off/leading off, "
    "limps/limping, motors/motoring, nips/nipping, pedals/pedaling, pelts/pelting, powers/powering, propels "
    "itself/propelling itself, rattles/rattling, relocates/relocating, roars/roaring, rockets/rocketing, "
    "scrambles/scrambling, shifts over/shifting over, shimmies/shimmying, shoves off/shoving off, sleds/sledding, "
    "snakes/snaking, spins/spinning, stalks/stalking, stampedes/stampeding, stomps/stomping, strays/straying, "
    "swishes/swishing, taxis/taxiing, toddles/toddling, transfers/transferring, trips/tripping, trickles/trickling, "
    "turns/turning, twirls/twirling, wheels/wheeling, whisks/whisking, wings its way/winging its way, yaws/yawing, "
    "steps along/stepping along, treads/treading, transits/transiting, traverses/traversing, floats away/floating "
    "away, drifts off/drifting off, moves off/moving off, goes off/going off, heads off/heading off, runs off/running "
    "off, walks off/walking off, swims off/swimming off, flies off/flying off, drives off/driving off, rolls "
    "off/rolling off, slides off/sliding off, speeds off/speeding off, races off/racing off, wanders off/wandering "
    "off, is carried/being carried, is dragged/being dragged, is drawn/being drawn, is led/being led, is blown/being "
    "blown, is transported/being transported, is driven/being driven, is dragged along/being dragged along, is "
    "shifted/being shifted, is shoved/being shoved, is towed/being towed, is guided/being guided, is thrown/being "
    "thrown, is swept/being swept, is slid/being slid, is nudged/being nudged, is steered/being steered, is "
    "displaced/being displaced"
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
        f"away to the {side}",
        f"away to the {compass}",
        f"out to the {side}",
        f"off towards the {side}",
        f"off toward the {side} edge",
        f"toward the {side} edge",
        f"to the far {side}",
        f"in the {side} direction",
        f"in a {side}ward direction",
        f"{compass}bound",
        f"towards the {compass}",
        f"across to the {compass}",
        f"{side} across the screen",
        f"to the {side} of the screen",
        f"out of the picture on the {side}",
        f"past from {other} to {side}",
        f"by from {other} to {side}",
        f"from the {other} edge to the {side} edge",
        f"straight {side}",
        f"further {side}",
        f"further and further to the {side}",
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
        f"{way} along the wall",
        f"{way} and {way}",
        f"further {way}",
        f"all the way {way}",
        f"to the very {end}",
        f"toward the {end} edge",
        f"towards the {end} edge",
        f"in the {way}ward direction",
        f"vertically {way}",
        f"from the {start} edge to the {end} edge",
    )


WAYS = {
    "left": _sideways("left", "right", "west"),
    "right": _sideways("right", "left", "east"),
    "up": (
        *_upright("up", "top", "bottom", "north"),
        "higher",
        "into the air",
        "up into the sky",
        "skyward",
        "aloft",
        "higher and higher",
        "towards the sky",
        "to the sky",
        "to the ceiling",
        "up a wall",
        "up the wall",
        "up a ladder",
        "into the sky",
        "up in the air",
        "up above",
        "off the ground",
        "up and away",
    ),
    "down": (
        *_upright("down", "bottom", "top", "south"),
        "lower",
        "to the ground",
        "down to the floor",
        "earthward",
        "lower and lower",
        "towards the ground",
        "to the floor",
        "towards the floor",
        "down a wall",
        "down the wall",
        "down a ladder",
        "to the depths",
        "into the depths",
        "down below",
        "down from the sky",
        "down to earth",
    ),
}
PHRASES = {  # what says its direction by itself
    "left": _verbs(
        "crosses from right to left/crossing from right to left, leaves to the left/leaving to the left, leaves on "
        "the left/leaving on the left, goes west/going west, heads west/heading west, turns left/turning left, exits "
        "left/exiting left, comes from the right/coming from the right, comes in from the right/coming in from the "
        "right, moves sideways to the left/moving sideways to the left, vanishes to the left/vanishing to the left, "
        "disappears to the left/disappearing to the left, disappears on the left/disappearing on the left, heads "
        "left/heading left, veers left/veering left, steers left/steering left, swings left/swinging left, drifts "
        "left/drifting left, departs to the left/departing to the left, escapes to the left/escaping to the left, "
        "retreats to the left/retreating to the left, moves westwards/moving westwards, goes westwards/going "
        "westwards, travels west/traveling west, runs west/running west, flies west/flying west, swims west/swimming "
        "west, drives west/driving west, sails west/sailing west, heads out west/heading out west, walks west/walking "
        "west, makes for the left edge/making for the left edge, approaches the left edge/approaching the left edge, "
        "reaches for the left side/reaching for the left side, moves leftwards/moving leftwards, crosses the screen "
        "from right to left/crossing the screen from right to left, crosses the picture from right to left/crossing "
        "the picture from right to left, crosses leftwards/crossing leftwards, passes from right to left/passing from "
        "right to left, runs off to the left/running off to the left, wanders off to the left/wandering off to the "
        "left, swerves to the left/swerving to the left, enters from the right/entering from the right, appears from "
        "the right/appearing from the right"
    ),
    "right": _verbs(
        "crosses from left to right/crossing from left to right, leaves to the right/leaving to the right, leaves on "
        "the right/leaving on the right, goes east/going east, heads east/heading east, turns right/turning right, "
        "exits right/exiting right, comes from the left/coming from the left, comes in from the left/coming in from "
        "the left, moves sideways to the right/moving sideways to the right, vanishes to the right/vanishing to the "
        "right, disappears to the right/disappearing to the right, disappears on the right/disappearing on the right, "
        "heads right/heading right, veers right/veering right, steers right/steering right, swings right/swinging "
        "right, drifts right/drifting right, departs to the right/departing to the right, escapes to the "
        "right/escaping to the right, retreats to the right/retreating to the right, moves eastwards/moving "
        "eastwards, goes eastwards/going eastwards, travels east/traveling east, runs east/running east, flies "
        "east/flying east, swims east/swimming east, drives east/driving east, sails east/sailing east, heads out "
        "east/heading out east, walks east/walking east, makes for the right edge/making for the right edge, "
        "approaches the right edge/approaching the right edge, reaches for the right side/reaching for the right "
        "side, moves rightwards/moving rightwards, crosses the screen from left to right/crossing the screen from "
        "left to right, crosses the picture from left to right/crossing the picture from left to right, crosses "
        "rightwards/crossing rightwards, passes from left to right/passing from left to right, runs off to the "
        "right/running off to the right, wanders off to the right/wandering off to the right, swerves to the "
        "right/swerving to the right, enters from the left/entering from the left, appears from the left/appearing "
        "from the left"
    ),
    "up": _verbs(
        "rises/rising, climbs/climbing, ascends/ascending, soars/soaring, lifts off/lifting off, takes off/taking "
        "off, levitates/levitating, floats up/floating up, flies up/flying up, gains height/gaining height, rises "
        "up/rising up, climbs up/climbing up, climbs higher/climbing higher, rises into the air/rising into the air, "
        "rises higher and higher/rising higher and higher, soars into the sky/soaring into the sky, leaves the "
        "ground/leaving the ground, blasts off/blasting off, launches into the air/launching into the air, goes to "
        "the top/going to the top, floats like a balloon/floating like a balloon, is lifted/being lifted, is "
        "raised/being raised, mounts/mounting, surfaces/surfacing, comes up from below/coming up from below, jumps "
        "up/jumping up, shoots up/shooting up, gets higher/getting higher, heads north/heading north, scales up the "
        "wall/scaling up the wall, rockets/rocketing, springs up/springing up, wells up/welling up, bobs up/bobbing "
        "up, jets off/jetting off, gets airborne/getting airborne, becomes airborne/becoming airborne, gets off the "
        "ground/getting off the ground, shoots for the stars/shooting for the stars, pops up/popping up, spirals "
        "up/spiraling up, zooms up/zooming up, goes aloft/going aloft, goes skyward/going skyward, reaches for the "
        "sky/reaching for the sky, heads for the sky/heading for the sky, heads for the ceiling/heading for the "
        "ceiling, heads for the clouds/heading for the clouds, floats away to the top/floating away to the top, "
        "scales the screen/scaling the screen, gains altitude/gaining altitude, clambers up/clambering up, scrambles "
        "up/scrambling up, hops up/hopping up, leaps up/leaping up, bounds up/bounding up, springs into the "
        "air/springing into the air, leaps into the air/leaping into the air, hoists itself/hoisting itself, "
        "elevates/elevating, goes airborne/going airborne, takes to the air/taking to the air, takes flight/taking "
        "flight, takes wing/taking wing, flies into the sky/flying into the sky, drifts up/drifting up, glides "
        "up/gliding up, slides up/sliding up, travels up/traveling up, swims up/swimming up, rolls up/rolling up, "
        "runs up/running up, walks up/walking up, crawls up/crawling up, jumps into the air/jumping into the air, "
        "vaults up/vaulting up, grows higher/growing higher, rises above the ground/rising above the ground, rises "
        "out of the water/rising out of the water, floats upstairs/floating upstairs, goes upstairs/going upstairs, "
        "goes uphill/going uphill, climbs the wall/climbing the wall, climbs a ladder/climbing a ladder, climbs to the "
        "top/climbing to the top, rises to the top/rising to the top, rises to the surface/rising to the surface, "
        "comes to the surface/coming to the surface, leaps out of the water/leaping out of the water, escapes "
        "upwards/escaping upwards, heads up/heading up, heads for the top/heading for the top, lifts up/lifting up, "
        "lifts itself/lifting itself, raises itself/raising itself, pushes itself up/pushing itself up, pulls itself "
        "up/pulling itself up, winds its way up/winding its way up, works its way up/working its way up, makes its "
        "way up/making its way up, ascends skyward/ascending skyward, ascends to the heavens/ascending to the "
        "heavens, ascends to the top/ascending to the top, flies higher/flying higher, drifts skyward/drifting "
        "skyward, floats skyward/floating skyward, floats off into the sky/floating off into the sky, rises "
        "skyward/rising skyward, launches/launching, takes off like a rocket/taking off like a rocket, shoots into "
        "the air/shooting into the air, shoots skyward/shooting skyward, goes vertical/going vertical, moves to the "
        "top/moving to the top, leaves through the top/leaving through the top, exits at the top/exiting at the top, "
        "flies off at the top/flying off at the top, skyrockets/skyrocketing, upsurges/upsurging, is hoisted/being "
        "hoisted, is hoisted up/being hoisted up, is elevated/being elevated, is winched up/being winched up, is "
        "lifted up/being lifted up, is lifted into the air/being lifted into the air, is raised up/being raised up, "
        "is pulled up/being pulled up, is pushed up/being pushed up, is beamed up/being beamed up, is carried "
        "up/being carried up, is thrown up into the air/being thrown up into the air, is tossed into the air/being "
        "tossed into the air, is drawn upwards/being drawn upwards, is hauled up/being hauled up, is launched/being "
        "launched, is levitated/being levitated"
    ),
    "down": _verbs(
        "sinks/sinking, falls/falling, drops/dropping, descends/descending, dives/diving, plunges/plunging, "
        "plummets/plummeting, comes down/coming down, lands/landing, loses height/losing height, falls down/falling "
        "down, drops down/dropping down, dives down/diving down, tumbles down/tumbling down, falls to the "
        "ground/falling to the ground, sinks to the bottom/sinking to the bottom, touches down/touching down, is "
        "lowered/being lowered, nosedives/nosediving, dips/dipping, submerges/submerging, subsides/subsiding, "
        "sets/setting, goes under/going under, goes to the bottom/going to the bottom, comes in from above/coming in "
        "from above, falls from the sky/falling from the sky, climbs down/climbing down, gets lower/getting lower, "
        "heads south/heading south, descends to the floor/descending to the floor, slumps/slumping, "
        "parachutes/parachuting, parachutes down/parachuting down, skydives/skydiving, crashes/crashing, crashes "
        "down/crashing down, collapses/collapsing, drops like a stone/dropping like a stone, sinks like a "
        "stone/sinking like a stone, sinks to the depths/sinking to the depths, spirals down/spiraling down, plops "
        "down/plopping down, slides down/sliding down, skids down/skidding down, drifts down/drifting down, floats "
        "down/floating down, flutters down/fluttering down, settles down/settling down, comes in to land/coming in to "
        "land, makes a landing/making a landing, goes downhill/going downhill, loses altitude/losing altitude, swoops "
        "down/swooping down, takes a dive/taking a dive, takes a tumble/taking a tumble, topples over/toppling over, "
        "falls over the edge/falling over the edge, descends into the depths/descending into the depths, descends "
        "into the darkness/descending into the darkness, rains down/raining down, goes below/going below, heads for "
        "the floor/heading for the floor, heads for the ground/heading for the ground, slips down/slipping down, "
        "plunges into the deep/plunging into the deep, digs down/digging down, glides down/gliding down, travels "
        "down/traveling down, swims down/swimming down, rolls down/rolling down, runs down/running down, walks "
        "down/walking down, crawls down/crawling down, hops down/hopping down, goes downstairs/going downstairs, falls "
        "to earth/falling to earth, falls to the floor/falling to the floor, tumbles to the floor/tumbling to the "
        "floor, tumbles/tumbling, drops to the floor/dropping to the floor, drops to the ground/dropping to the "
        "ground, drops out of the sky/dropping out of the sky, falls out of the sky/falling out of the sky, falls "
        "like a stone/falling like a stone, goes for a dive/going for a dive, dives into the deep/diving into the "
        "deep, dives under/diving under, plunges down/plunging down, plummets down/plummeting down, cascades "
        "down/cascading down, comes crashing down/coming crashing down, nose-dives/nose-diving, heads down/heading "
        "down, heads for the bottom/heading for the bottom, moves to the bottom/moving to the bottom, leaves through "
        "the bottom/leaving through the bottom, exits at the bottom/exiting at the bottom, sinks lower/sinking lower, "
        "sinks down/sinking down, sinks away/sinking away, sinks out of sight/sinking out of sight, eases down/easing "
        "down, lets itself down/letting itself down, lowers itself/lowering itself, slides to the bottom/sliding to "
        "the bottom, winds its way down/winding its way down, works its way down/working its way down, makes its way "
        "down/making its way down, descends slowly/descending slowly, falls towards the ground/falling towards the "
        "ground, falls head over heels/falling head over heels, abseils/abseiling, goes down like a lift/going down "
        "like a lift, caves in/caving in, slumps down/slumping down, touches the ground/touching the ground, drains "
        "away/draining away, droops/drooping, falls from above/falling from above, descends from above/descending "
        "from above, drops from above/dropping from above, goes to the ground/going to the ground, goes to the "
        "floor/going to the floor, is dropped/being dropped, is let down/being let down, is pulled down/being pulled "
        "down, is pushed down/being pushed down, is lowered to the ground/being lowered to the ground, is thrown "
        "down/being thrown down, is dragged down/being dragged down, is sucked down/being sucked down, is tossed "
        "down/being tossed down, is brought down/being brought down"
    ),
    "still": _verbs(
        "stands still/standing still, stays still/staying still, does not move/not moving, doesn't move/not moving at "
        "all, keeps still/keeping still, sits still/sitting still, sits quietly/sitting quietly, sits there/sitting "
        "there, sits/sitting, stands/standing, stands there/standing there, stands quietly/standing quietly, "
        "waits/waiting, waits patiently/waiting patiently, rests/resting, is at rest/at rest, stays put/staying put, "
        "stays in place/staying in place, stays where it is/staying where it is, remains in place/remaining in place, "
        "remains motionless/remaining motionless, is motionless/motionless, holds still/holding still, is "
        "stationary/stationary, is standing still/which is standing still, poses/posing, hovers in place/hovering in "
        "place, hangs motionless/hanging motionless, is frozen/frozen in place, goes nowhere/going nowhere, stays in "
        "the middle/staying in the middle, stays in the same place/staying in the same spot, idles/idling, lies "
        "still/lying still, sleeps/sleeping, relaxes/relaxing, is parked/parked, never moves/never moving, "
        "pauses/pausing, stops/stopping, calmly stays/calmly staying, would not budge/not budging, will not "
        "budge/refusing to budge, won't budge/unwilling to budge, refuses to move/refusing to move, does not "
        "budge/not budging an inch, doesn't budge/never budging, does not stir/not stirring, doesn't stir/never "
        "stirring, does nothing/doing nothing, does nothing at all/doing nothing at all, is rooted to the spot/rooted "
        "to the spot, stands rooted/standing rooted, is glued to the spot/glued to the spot, is stuck/stuck in place, "
        "hangs there/hanging there, hangs in the air/hanging in the air, hovers/hovering, floats in place/floating in "
        "place, freezes/freezing, stands at ease/standing at ease, stands at attention/standing at attention, is "
        "idle/idle, is idle in the middle/idle in the middle, makes no move/making no move, makes no move at "
        "all/making no move at all, keeps its place/keeping its place, holds its position/holding its position, stays "
        "in position/staying in position, stays in one place/staying in one place, stays on the spot/staying on the "
        "spot, stays centred/staying centred, looks at the camera/looking at the camera, faces the camera/facing the "
        "camera, looks at us/looking at us, dozes/dozing, naps/napping, snoozes/snoozing, meditates/meditating, "
        "lounges/lounging, chills/chilling, perches/perching, squats/squatting, crouches/crouching, lies there/lying "
        "there, remains where it is/remaining where it is, remains still/remaining still, remains there/remaining "
        "there, remains seated/remaining seated, remains in the centre/remaining in the centre, just stands "
        "there/just standing there, just sits there/just sitting there, simply stands/simply standing, simply "
        "stays/simply staying, is simply there/simply being there, takes a rest/taking a rest, takes a nap/taking a "
        "nap, takes a break/taking a break, has a rest/having a rest, is asleep/asleep, stares/staring, stands "
        "guard/standing guard, stands firm/standing firm, halts/halting, has stopped/having stopped, is still/still, "
        "is static/static, is immobile/immobile, is unmoving/unmoving, stays motionless/staying motionless, stays "
        "quiet/staying quiet, stands like a statue/standing like a statue, sits like a stone/sitting like a stone, is "
        "frozen like a photograph/frozen like a photograph, is frozen in time/frozen in time, does not go "
        "anywhere/not going anywhere, doesn't go anywhere/without going anywhere, stays home/staying home, keeps "
        "quiet/keeping quiet, keeps its position/keeping its position, holds its ground/holding its ground, waits in "
        "the middle/waiting in the middle, stands in the middle/standing in the middle, sits in the middle/sitting in "
        "the middle, hangs in the middle/hanging in the middle, is in the middle/in the middle, is in the centre/in "
        "the centre, is parked there/parked there, is at a standstill/at a standstill, has come to a halt/at a halt, "
        "stays exactly where it is/staying exactly where it is, remains fixed/remaining fixed, is fixed/fixed in "
        "place, remains stationary/remaining stationary, stays stationary/staying stationary, loiters/loitering, "
        "lingers/lingering, tarries/tarrying, lazes about/lazing about, reposes/reposing, daydreams/daydreaming"
    ),
}
LOOSE = {  # said beside the sentence
    "still": as_list(
        "nothing moves, no motion, without moving, no movement, motionless, stationary, static, at rest, standing "
        "still, completely still, it does not move, it stays where it is, still, like a statue, nothing happens, a "
        "still shot, without any movement, immobile, unmoving, nothing moves at all, nothing is moving, no motion at "
        "all, like a photograph, like a painting, as if frozen, as if glued to the spot, in a freeze frame, in one "
        "spot, on the spot, in place, it just stays there, it never moves, it stands still, it waits, it is not "
        "moving, a still image, frozen, without a move, not a move, unmoved, a motionless picture, completely "
        "motionless, perfectly still, absolutely still, still life, it does not budge, not moving, no action, all is "
        "quiet"
    ),
    "left": as_list(
        "leftwards, to the left, going left, it moves left, motion to the left, from right to left, westwards, "
        "leftward motion, left, it goes to the left, towards the left, heading left, off to the left, to the left "
        "side, the movement is to the left, it travels left, it heads west, it walks to the left, it is moving left, "
        "it flies to the left, direction: left, direction left, moves left, moving left, leftward, westward, it runs "
        "left, it drives left, from the right to the left, going west, towards the left side, motion: left, camera "
        "sees it go left"
    ),
    "right": as_list(
        "rightwards, to the right, going right, it moves right, motion to the right, from left to right, eastwards, "
        "rightward motion, right, it goes to the right, towards the right, heading right, off to the right, to the "
        "right side, the movement is to the right, it travels right, it heads east, it walks to the right, it is "
        "moving right, it flies to the right, direction: right, direction right, moves right, moving right, "
        "rightward, eastward, it runs right, it drives right, from the left to the right, going east, towards the "
        "right side, motion: right, camera sees it go right"
    ),
    "up": as_list(
        "upwards, up, going up, it moves up, upward motion, from bottom to top, rising, ascending, it rises, "
        "skywards, it climbs, it takes off, heading up, higher and higher, it goes up, it is moving up, direction: "
        "up, direction up, moves up, moving up, upward, it soars, it flies up, it ascends, it lifts off, into the "
        "air, into the sky, up into the air, towards the top, to the top, going higher, it gets higher, straight up, "
        "motion: up, up and up, up and away, northwards, skyward, it floats up"
    ),
    "down": as_list(
        "downwards, down, going down, it moves down, downward motion, from top to bottom, falling, descending, it "
        "falls, it sinks, it drops, it dives, heading down, lower and lower, it goes down, it is moving down, "
        "direction: down, direction down, moves down, moving down, downward, it plummets, it plunges, it descends, it "
        "lands, to the ground, to the floor, to the bottom, towards the bottom, towards the ground, going lower, it "
        "gets lower, straight down, motion: down, down and down, southwards, sinking, dropping, diving, it comes down"
    ),
}
