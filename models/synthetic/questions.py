"""Captions and questions with their answers, written from the truth of a synthetic clip.

A question is only asked where the truth leaves no doubt: not about an object that is hardly visible, a direction near a
diagonal, a moment that no frame on either side shows. The words are few, so that a small model can learn them all.
"""

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from .ground_truth import Event, FigureTruth, Truth
from .scenes import CAMERAS, COLOURS, FAULTS, GROUNDS, HELD_OUT, PATTERNS, SHAPES, Clip, split_of

ACTIONS = {
    "still": "it stays still",
    "moves": "it keeps moving",
    "stops": "it moves and stops",
    "starts": "it waits and starts to move",
    "speeds up": "it speeds up",
    "slows down": "it slows down",
    "bounces": "it bounces back",
    "appears": "it appears",
    "disappears": "it disappears",
}
CAMERA_WORDS = {
    "still": "it stays still",
    "left": "it pans left",
    "right": "it pans right",
    "up": "it tilts up",
    "down": "it tilts down",
    "in": "it zooms in",
    "out": "it zooms out",
    "shake": "it shakes",
}
FAULT_WORDS = {
    "flicker": "it flickers",
    "freeze": "it freezes",
    "duplicate": "frames repeat",
    "vanish": "an object vanishes",
    "morph": "an object changes",
    "jitter": "an object jitters",
}
FAULT_QUESTIONS = {
    "flicker": ("Does the video flicker?", "Is the brightness unsteady?"),
    "freeze": ("Does the video freeze?", "Does the video stand still for a while?"),
    "duplicate": ("Do frames repeat?", "Is every frame shown twice for a while?"),
    "vanish": ("Does an object vanish suddenly?", "Is an object gone from one frame to the next?"),
    "morph": ("Does an object change its shape or colour?", "Does an object turn into another?"),
    "jitter": ("Does an object jitter?", "Does an object tremble?"),
}
KINDS = (
    "colour", "shape", "size", "pattern", "count", "position", "direction", "speed", "motion", "rotation", "occlusion",
    "order", "when", "camera", "cuts", "fault", "background", "existence",
)  # fmt: skip
ONE_WAY = ("moves", "stops", "starts", "speeds up", "slows down")
USUAL = 0.3
"""Probability of asking a question whose answer is the usual one, such as that something does not rotate."""

TIME_BETWEEN = 0.7
"""Seconds that two events must be apart for their order to be asked."""


@dataclass(frozen=True, slots=True)
class Question:
    """A question and its answer.

    ``form`` is "open", "choice" (the question names the choices) or "yes/no". ``choices`` are all answers that
    compete, the right one among them, for every form. ``topic`` names what a yes/no question about a fault asks for.
    """

    kind: str
    form: str
    question: str
    answer: str
    choices: tuple[str, ...]
    topic: str = ""

    def to_json(self) -> dict:
        """The same as JSON values."""
        return asdict(self)


def write_questions(clip: Clip, truth: Truth, seed: int = 0) -> list[Question]:
    """Every question that the truth can answer beyond doubt, in random order; the wording follows ``seed``."""
    draw = random.Random(f"{clip.seed} {seed}")
    scene = _Scene(clip, truth)
    found = [question for writer in WRITERS for question in writer(scene, draw)]
    draw.shuffle(found)
    return found


def write_caption(clip: Clip, truth: Truth) -> str:
    """Sentences about each shot, its objects and its camera, and about what is wrong."""
    scene = _Scene(clip, truth)
    sentences = []
    shots = [(number, shot) for number, shot in enumerate(clip.shots) if scene.shown(number)]
    for position, (number, shot) in enumerate(shots):
        if position:
            sentences.append(f"Then there is a {shot.opening}.")
        figures = [figure for figure in truth.figures if figure.shot == number and figure.seen >= 1]
        sentences += [_sentence(scene, figure) for figure in figures]
        sentences.append(f"The background is {shot.ground.kind}.")
        if shot.camera.kind != "still" and len(scene.shown(number)) >= 4:
            sentences.append(f"The camera {CAMERA_WORDS[shot.camera.kind][3:]}.")
    for kind in truth.faults:
        words = FAULT_WORDS[kind]
        sentences.append(f"The video {words[3:]}." if words.startswith("it ") else f"{words.capitalize()}.")
    return " ".join(sentences)


def _sentence(scene: "_Scene", figure: FigureTruth) -> str:
    action = ACTIONS[figure.motion][3:]
    where = ""
    if figure.motion == "moves" and scene.moves_as_it_seems and figure.direction:
        action, where = "moves", f" {figure.direction}"
    elif not scene.shows_motion(figure):
        return f"There is a {figure.size} {figure.name}."
    return f"A {figure.size} {figure.name} {action}{where}."


class _Scene:
    """A clip, its truth, and what the questions have in common."""

    def __init__(self, clip: Clip, truth: Truth):
        self.clip, self.truth, self.split = clip, truth, split_of(clip.seed)
        self.seconds = [frame / clip.fps for frame in truth.frames]
        self.damaged = {fault.figure for fault in clip.faults if fault.figure is not None}
        self.changed = {fault.figure for fault in clip.faults if fault.kind in ("morph", "vanish")}
        faults = {fault.kind for fault in clip.faults}
        self.time_is_whole = not faults & {"freeze", "duplicate"}
        # A moving camera moves everything on the screen, so directions could be read in two ways.
        self.moves_as_it_seems = all(kind in ("still", "shake") for kind in truth.cameras) and self.time_is_whole
        self.names = Counter(figure.name for figure in truth.figures)
        self.clear = [figure for figure in truth.figures if self.is_clear(figure) and self.names[figure.name] == 1]
        self.all_clear = all(self.is_clear(figure) for figure in truth.figures)

    def may_be_named(self, colour: str, shape: str) -> bool:
        """Whether a pair may be in a wrong answer: those kept for the test are not denied before it either."""
        return self.split == "test" or (colour, shape) not in HELD_OUT

    def shown(self, shot: int) -> list[int]:
        """Indexes of the sampled frames that belong to a shot."""
        clip = self.clip
        return [at for at, frame in enumerate(self.truth.frames) if clip.shot_at(frame) is clip.shots[shot]]

    def is_clear(self, figure: FigureTruth) -> bool:
        """Whether it can be seen well for a good part of its shot."""
        shown = self.shown(figure.shot)
        return bool(shown) and figure.seen >= max(1, 0.3 * len(shown))

    def whole(self, figure: FigureTruth) -> bool:
        """Whether the figure is what it is from beginning to end."""
        return figure.shot != 0 or figure.index not in self.changed

    def only_of_size(self, figure: FigureTruth) -> bool:
        """Whether no other figure is as large or as small, in a clip without zoom."""
        sizes = Counter(figure.size for figure in self.truth.figures)
        return sizes[figure.size] == 1 and not set(self.truth.cameras) & {"in", "out"}

    def around(self, shot: int, seconds: float) -> int:
        """The smaller number of frames of a shot on either side of a moment."""
        times = [self.seconds[at] for at in self.shown(shot)]
        return min(sum(time < seconds - 0.02 for time in times), sum(time > seconds + 0.02 for time in times))

    def shows_motion(self, figure: FigureTruth) -> bool:
        """Whether the frames show what it does, and nothing else could be meant."""
        shown = self.shown(figure.shot)
        undisturbed = figure.shot != 0 or figure.index not in self.damaged
        if not (undisturbed and self.moves_as_it_seems and len(shown) >= 4):
            return False
        if figure.motion in ("appears", "disappears"):
            return self.around(figure.shot, figure.moment) >= 2
        if figure.seen < 0.8 * len(shown):
            return False
        if figure.motion == "still":
            return True
        enough = {"speeds up": 0.4, "slows down": 0.4}.get(figure.motion, 0.2)
        if figure.travelled < enough or (enough == 0.4 and len(shown) < 6):
            return False
        return figure.moment is None or self.around(figure.shot, figure.moment) >= 2


def _pick(draw, *wordings: str) -> str:
    return draw.choice(wordings)


def _with_article(name: str) -> str:
    return f"an {name}" if name[0] in "aeiou" else f"a {name}"


def _choices(draw, answer: str, others, count: int = 4) -> tuple[str, ...]:
    """``answer`` among at most ``count`` - 1 of the others, in random order."""
    others = [other for other in others if other != answer]
    chosen = [answer, *draw.sample(others, min(count - 1, len(others)))]
    draw.shuffle(chosen)
    return tuple(chosen)


def _ask(draw, kind: str, question: str, answer: str, others) -> Question:
    """The question in its open form, or with the choices written after it."""
    choices = _choices(draw, answer, others)
    if draw.random() < 0.7:
        return Question(kind, "open", question, answer, choices)
    return Question(kind, "choice", f"{question} Choose: {_listed(choices)}.", answer, choices)


def _listed(choices) -> str:
    return ", ".join(choices[:-1]) + f" or {choices[-1]}"


def _yes_no(kind: str, question: str, answer: bool, topic: str = "") -> Question:
    return Question(kind, "yes/no", question, "yes" if answer else "no", ("yes", "no"), topic)


def ask_colour(scene: _Scene, draw) -> Iterator[Question]:
    """The colour of the only object of a shape, or of a size."""
    shapes = Counter(figure.shape for figure in scene.truth.figures)
    for figure in filter(scene.whole, scene.clear):
        others = [colour for colour in COLOURS if scene.may_be_named(colour, figure.shape)]
        if shapes[figure.shape] == 1:
            wording = _pick(draw, "What colour is the {}?", "Which colour does the {} have?").format(figure.shape)
            yield _ask(draw, "colour", wording, figure.colour, others)
            colour = draw.choice([figure.colour, draw.choice([other for other in others if other != figure.colour])])
            yield _yes_no("colour", f"Is the {figure.shape} {colour}?", colour == figure.colour)
        if scene.only_of_size(figure):
            yield _ask(draw, "colour", f"What colour is the {figure.size} object?", figure.colour, others)


def ask_shape(scene: _Scene, draw) -> Iterator[Question]:
    """The shape of the only object of a colour, or of a size."""
    colours = Counter(figure.colour for figure in scene.truth.figures)
    for figure in filter(scene.whole, scene.clear):
        others = [shape for shape in SHAPES if scene.may_be_named(figure.colour, shape)]
        if colours[figure.colour] == 1:
            wording = _pick(draw, "What shape is the {} object?", "Which shape does the {} object have?")
            yield _ask(draw, "shape", wording.format(figure.colour), figure.shape, others)
        if scene.only_of_size(figure):
            yield _ask(draw, "shape", f"What shape is the {figure.size} object?", figure.shape, others)


def ask_size(scene: _Scene, draw) -> Iterator[Question]:
    """Small or large; the camera must not zoom."""
    if set(scene.truth.cameras) & {"in", "out"}:
        return
    for figure in scene.clear:
        if scene.whole(figure):
            yield _ask(draw, "size", f"How big is the {figure.name}?", figure.size, ("small", "large"))


def ask_pattern(scene: _Scene, draw) -> Iterator[Question]:
    """The pattern of a large object."""
    for figure in scene.clear:
        if figure.size == "large" and figure.shape in ("circle", "square", "ring") and scene.whole(figure):
            wording = _pick(draw, "What pattern does the {} have?", "How is the {} patterned?").format(figure.name)
            yield _ask(draw, "pattern", wording, figure.pattern, PATTERNS)


def ask_count(scene: _Scene, draw) -> Iterator[Question]:
    """How many objects, or how many of a colour or a shape, in clips of one shot where each can be seen well."""
    figures = scene.truth.figures
    if len(scene.clip.shots) != 1 or not scene.all_clear or scene.changed:
        return
    wording = _pick(draw, "How many objects are there?", "How many objects can be seen in all?")
    yield _ask(draw, "count", wording, str(len(figures)), "1234")
    words = [figure.colour for figure in figures] + [f"{figure.shape}" for figure in figures]
    word = draw.choice(words)
    if word in COLOURS:
        number = sum(figure.colour == word for figure in figures)
        yield _ask(draw, "count", f"How many {word} objects are there?", str(number), "1234")
    else:
        number = sum(figure.shape == word for figure in figures)
        plural = "crosses" if word == "cross" else f"{word}s"
        yield _ask(draw, "count", f"How many {plural} are there?", str(number), "1234")


def ask_existence(scene: _Scene, draw) -> Iterator[Question]:
    """Whether there is an object of a colour and a shape; the other answer names one that has either."""
    if not scene.all_clear or scene.changed or not scene.truth.figures:
        return
    figure = draw.choice(scene.truth.figures)
    if draw.random() < 0.5:
        yield _yes_no("existence", f"Is there {_with_article(figure.name)}?", True)
        return
    pairs = [(figure.colour, shape) for shape in SHAPES] + [(colour, figure.shape) for colour in COLOURS]
    names = [" ".join(pair) for pair in pairs if scene.may_be_named(*pair)]
    names = [name for name in names if name not in scene.names]
    yield _yes_no("existence", f"Is there {_with_article(draw.choice(names))}?", False)


def ask_position(scene: _Scene, draw) -> Iterator[Question]:
    """On which half of the picture an object is at the beginning or at the end."""
    last = len(scene.clip.shots) - 1
    if scene.truth.cameras != ("still",) * (last + 1) or not scene.time_is_whole:
        return
    for figure in scene.clear:
        for when, shot, at in (("start", 0, 0), ("end", last, -1)):
            if figure.shot != shot or figure.visible[at] < 0.7 or figure.index in scene.damaged:
                continue
            position = scene.clip.shots[shot].figures[figure.index].position(scene.seconds[at])
            axis = draw.randrange(2)
            fraction = position[axis] / scene.clip.aspect[axis]
            if abs(fraction - 0.5) < 0.12:
                continue
            words = (("left", "right"), ("top", "bottom"))[axis]
            wording = f"On which side is the {figure.name} at the {when}, {words[0]} or {words[1]}?"
            yield Question("position", "choice", wording, words[fraction > 0.5], words)


def ask_direction(scene: _Scene, draw) -> Iterator[Question]:
    """Where an object moves that goes one way only."""
    for figure in scene.clear:
        if figure.direction is None or figure.motion not in ONE_WAY or not scene.shows_motion(figure):
            continue
        wording = _pick(draw, "Which way does the {} move?", "In which direction does the {} go?").format(figure.name)
        yield _ask(draw, "direction", wording, figure.direction, ("left", "right", "up", "down"))


def ask_speed(scene: _Scene, draw) -> Iterator[Question]:
    """Fast or slow, for objects of one speed."""
    for figure in scene.clear:
        if figure.speed_class and figure.motion in ("moves", "stops", "starts") and scene.shows_motion(figure):
            yield _ask(draw, "speed", f"How does the {figure.name} move?", figure.speed_class, ("fast", "slow"))


def ask_motion(scene: _Scene, draw) -> Iterator[Question]:
    """What an object does."""
    for figure in scene.clear:
        if figure.motion == "still" and draw.random() > USUAL:
            continue
        if scene.shows_motion(figure):
            wording = _pick(draw, "What does the {} do?", "What happens to the {}?").format(figure.name)
            yield _ask(draw, "motion", wording, ACTIONS[figure.motion], ACTIONS.values())


def ask_rotation(scene: _Scene, draw) -> Iterator[Question]:
    """Whether an object turns."""
    for figure in scene.clear:
        if not figure.rotates and draw.random() > USUAL:
            continue
        steady = scene.whole(figure) and scene.time_is_whole
        if figure.rotates is not None and steady and figure.seen >= max(3, 0.8 * len(scene.shown(figure.shot))):
            wording = _pick(draw, "Does the {} rotate?", "Is the {} turning around?").format(figure.name)
            yield _yes_no("rotation", wording, figure.rotates)


def ask_occlusion(scene: _Scene, draw) -> Iterator[Question]:
    """Whether one object passes in front of another."""
    if len(scene.clip.shots) != 1 or scene.changed or not scene.all_clear or len(scene.truth.figures) < 2:
        return
    one, other = sorted(draw.sample(scene.truth.figures, 2), key=lambda figure: figure.index)
    shot = scene.clip.shots[0]
    reach = one.index, other.index
    nearest = min(_distance(*(shot.figures[index] for index in reach), time) for time in scene.seconds)
    covered = [fraction < 0.6 for fraction in one.visible]
    if {one.motion, other.motion} & {"appears", "disappears"} or scene.clip.faults:
        return
    others = [figure for figure in scene.truth.figures if figure.index > one.index and figure is not other]
    wording = f"Does the {other.name} pass in front of the {one.name}?"
    if nearest < 0.5 and any(covered) and not others and scene.truth.cameras == ("still",):
        yield _yes_no("occlusion", wording, True)
    elif nearest > 1.1 and draw.random() < USUAL:
        yield _yes_no("occlusion", wording, False)


def _distance(one, other, seconds: float) -> float:
    """Between the centres of two figures, in sums of their radii."""
    (x, y), (u, v) = one.position(seconds), other.position(seconds)
    return ((x - u) ** 2 + (y - v) ** 2) ** 0.5 / (one.radius + other.radius)


def _visible_events(scene: _Scene) -> list[Event]:
    """Events that the frames show."""
    known = {(figure.name, figure.moment) for figure in scene.clear if scene.shows_motion(figure)}
    return [
        event
        for event in scene.truth.events
        if (event.kind in ("cut", "fade") and scene.seconds[0] < event.seconds <= scene.seconds[-1])
        or any(name in event.text and at == event.seconds for name, at in known)
    ]


def ask_order(scene: _Scene, draw) -> Iterator[Question]:
    """Which of two events comes first, or last, and whether two come in this order."""
    events = _visible_events(scene)
    texts = Counter(event.text for event in events)
    events = [event for event in events if texts[event.text] == 1]
    pairs = [
        (first, second)
        for index, first in enumerate(events)
        for second in events[index + 1 :]
        if second.seconds - first.seconds >= TIME_BETWEEN
    ]
    for first, second in draw.sample(pairs, min(4, len(pairs))):
        for word, answer in (("first", first), ("last", second)):
            choices = [first.text, second.text]
            draw.shuffle(choices)
            wording = f"What happens {word}: {choices[0]} or {choices[1]}?"
            yield Question("order", "choice", wording, answer.text, tuple(choices))
        named = draw.sample([first, second], 2)
        wording = f"Do these happen in this order: {named[0].text}, {named[1].text}?"
        yield _yes_no("order", wording, named[0] is first)


def ask_when(scene: _Scene, draw) -> Iterator[Question]:
    """In which half of the clip an event is, and at which of a few times far from each other."""
    if not scene.time_is_whole:
        return
    texts = Counter(event.text for event in scene.truth.events)
    start, stop = scene.seconds[0], scene.seconds[-1]
    for event in _visible_events(scene):
        if texts[event.text] != 1:
            continue
        fraction = (event.seconds - start) / max(stop - start, 1e-6)
        if abs(fraction - 0.5) > 0.12:
            halves = ("in the first half", "in the second half")
            yield _ask(draw, "when", f"When is this: {event.text}?", halves[fraction > 0.5], halves)
        step = max(0.8, (stop - start) / 4)
        times = [event.seconds + step * shift for shift in range(-3, 4)]
        times = [time for time in times if start <= time <= stop + 0.05]
        if len(times) >= 2:
            words = [f"{time:.1f} seconds" for time in times]
            yield _ask(draw, "when", f"At what time is this: {event.text}?", f"{event.seconds:.1f} seconds", words)


def ask_camera(scene: _Scene, draw) -> Iterator[Question]:
    """What the camera does in a clip of one shot, where something shows it."""
    truth, shot = scene.truth, scene.clip.shots[0]
    resting = sum(figure.motion == "still" and figure.seen >= 2 for figure in truth.figures)
    regular = shot.ground.kind in ("smooth", "striped", "checked")
    if len(scene.clip.shots) != 1 or len(truth.frames) < 4 or not scene.time_is_whole or (regular and not resting):
        return
    wording = _pick(draw, "What does the camera do?", "How does the camera move?")
    yield _ask(draw, "camera", wording, CAMERA_WORDS[truth.cameras[0]], (CAMERA_WORDS[kind] for kind in CAMERAS))
    moves = truth.cameras[0] != "still"
    yield _yes_no("camera", _pick(draw, "Does the camera move?", "Is the camera moving?"), moves)


def ask_cuts(scene: _Scene, draw) -> Iterator[Question]:
    """How many shots, what kind of change, and what is seen after it."""
    shots = scene.clip.shots
    if any(len(scene.shown(number)) < 2 for number in range(len(shots))):
        return
    if len(shots) == 1 and draw.random() > USUAL:
        return
    yield _ask(
        draw, "cuts", _pick(draw, "How many shots are there?", "How many scenes are there?"), str(len(shots)), "1234"
    )
    yield _yes_no("cuts", _pick(draw, "Is there more than one scene?", "Does the scene change?"), len(shots) > 1)
    after = [figure for figure in scene.clear if figure.shot == 1]
    if len(shots) == 2 and after:
        figure = draw.choice(after)
        later = {other.name for other in scene.truth.figures if other.shot == 1}
        others = {other.name for other in scene.truth.figures} - later
        like = (figure.colour, draw.choice(SHAPES)), (draw.choice(list(COLOURS)), figure.shape)
        others |= {" ".join(pair) for pair in like if scene.may_be_named(*pair)} - later
        listed = _choices(draw, figure.name, sorted(others), 3)
        if len(listed) > 1:
            wording = f"What is seen after the {shots[1].opening}? Choose: {_listed(listed)}."
            yield Question("cuts", "choice", wording, figure.name, listed)


def ask_fault(scene: _Scene, draw) -> Iterator[Question]:
    """What is wrong: the fault there is, and one that is not."""
    truth = scene.truth
    if truth.hidden_faults or len(truth.frames) < 4:
        return
    absent = [kind for kind in FAULTS if kind not in truth.faults and _plainly_absent(scene, kind)]
    # That nothing stood still is seldom plain, so it is said more often where it is.
    seldom = [kind for kind in absent if kind in ("freeze", "duplicate")]
    asked = list(truth.faults) + draw.sample(seldom if seldom and draw.random() < 0.5 else absent, min(1, len(absent)))
    for kind in asked:
        yield _yes_no("fault", _pick(draw, *FAULT_QUESTIONS[kind]), kind in truth.faults, kind)
    if len(absent) >= 3 and (truth.faults or len(absent) == len(FAULTS)):
        answer = FAULT_WORDS[truth.faults[0]] if truth.faults else "nothing"
        others = [FAULT_WORDS[kind] for kind in absent]
        yield _ask(draw, "fault", "What is wrong with the video?", answer, [*others, "nothing"])


def _plainly_absent(scene: _Scene, kind: str) -> bool:
    """Whether the frames show that a fault which is not there is not there."""
    truth = scene.truth
    if kind in ("freeze", "duplicate"):
        moving = any(
            figure.motion == "moves" and figure.travelled >= 0.3 and figure.seen >= 0.9 * len(truth.frames)
            for figure in truth.figures
        )
        return len(scene.clip.shots) == 1 and (moving or truth.cameras[0] not in ("still",)) and scene.time_is_whole
    if kind == "vanish":
        return all(figure.motion != "disappears" for figure in truth.figures) and len(scene.clip.shots) == 1
    if kind == "jitter":
        return "shake" not in truth.cameras
    if kind == "flicker":
        return not truth.fades
    return len(scene.clip.shots) == 1


def ask_background(scene: _Scene, draw) -> Iterator[Question]:
    """The background of a clip of one shot."""
    if len(scene.clip.shots) == 1:
        wording = _pick(draw, "What is the background like?", "How does the background look?")
        yield _ask(draw, "background", wording, scene.clip.shots[0].ground.kind, GROUNDS)


WRITERS = (
    ask_colour, ask_shape, ask_size, ask_pattern, ask_count, ask_existence, ask_position, ask_direction, ask_speed,
    ask_motion, ask_rotation, ask_occlusion, ask_order, ask_when, ask_camera, ask_cuts, ask_fault, ask_background,
)  # fmt: skip
