"""What takes leave open the planner chooses: within bounds, as PyYAML writes it, whoever else is in the batch."""

from __future__ import annotations

import itertools
import json
import random
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from llguidance import LLMatcher
from transformers import PreTrainedTokenizerFast

from catalog import limits
from catalog.errors import ModelError
from catalog.spec import OPEN_FIELDS, Bounds, PlannerSpec, TrackSpec, with_metadata
from catalog.track import Take, Track
from workers.ace_step.planner import metadata
from workers.ace_step.planner.loading import read_vocabulary
from workers.ace_step.planner.metadata import MetadataTemplate, TextVocabulary
from workers.ace_step.planner.planner import Planner
from workers.ace_step.planner.prompt import render_opening, render_prompts, think_block, think_metadata
from workers.ace_step.planner.sampling import gumbel_noise
from workers.ace_step.tiny.planner import write_tiny_planner

CPU = torch.device("cpu")
ALL_KEYS = tuple(limits.KEYSCALES)
WIDEST = Bounds(bpm=(30, 300), keyscales=ALL_KEYS, timesignatures=("2", "3", "4", "6"), duration_s=(10, 600))
EVERY_FIELD = ("bpm", "caption", "duration", "keyscale", "language", "timesignature")


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path: Path = tmp_path_factory.mktemp("planner")
    write_tiny_planner(path)
    return path


@pytest.fixture(scope="module")
def planner(folder) -> Planner:
    return Planner.load(folder, device=CPU, dtype=torch.float32)


@pytest.fixture(scope="module")
def vocabulary(planner) -> TextVocabulary:
    return TextVocabulary.of(planner.tokenizer, planner.vocabulary)


def an_open_spec(bounds: Bounds = WIDEST, **fields) -> TrackSpec:
    """A spec that leaves open what `bounds` has bounds for; `think_fields` and `temperature` go to its planner."""
    # Random weights are sure of themselves: at a usual temperature they would always choose the same.
    settings = {"temperature": 2.0} | {key: fields.pop(key) for key in ("think_fields", "temperature") if key in fields}
    known = {"bpm": 90, "keyscale": "C major", "timesignature": "3", "caption": "Slow piano", "duration_s": 12}
    chosen = {name: None if name in bounds.open else known[name] for name in ("bpm", "keyscale", "timesignature")}
    longest = {"duration_s": bounds.choices("duration")[-1]} if bounds.duration_s else {}
    asked = PlannerSpec(metadata="fill", open=bounds.open, **settings)
    return TrackSpec(**{**known, "model": "tiny-random", **fields, **chosen, **longest}, planner=asked, bounds=bounds)


def a_take(spec: TrackSpec, slot: int = 1, number: int = 1) -> Take:
    return Track(catalog="demo", zone="spa", genre="ambient", slot=f"{slot:04d}", spec=spec).take(number)


def mixed_takes() -> list[Take]:
    """Eight takes that leave different things open, between different bounds, with prompts of different length."""
    specs = [
        an_open_spec(),
        an_open_spec(Bounds(keyscales=ALL_KEYS), caption="Hard techno, " * 9, temperature=0.85),
        an_open_spec(Bounds(bpm=(99, 131), timesignatures=("3", "6")), think_fields=EVERY_FIELD, caption="é: 'so'"),
        an_open_spec(Bounds(duration_s=(10, 40), duration_step_s=10), think_fields=()),
        an_open_spec(Bounds(keyscales=("A♭ minor", "Ab minor", "E♯ major")), language="no", think_fields=EVERY_FIELD),
        an_open_spec(Bounds(bpm=(77, 77))),
        TrackSpec(caption="all given", bpm=72, keyscale="F# minor", duration_s=10, model="tiny-random"),
        an_open_spec(Bounds(bpm=(30, 300), keyscales=("C major",)), lyrics="[verse]\nla la"),
    ]
    return [a_take(spec, slot) for slot, spec in enumerate(specs, 1)]


def filled(planner: Planner, takes: list[Take]) -> list[TrackSpec]:
    return planner._filler.fill(takes)


def test_every_choice_is_within_its_bounds_and_what_is_given_stays(planner):
    for take, spec in zip(mixed_takes(), filled(planner, mixed_takes()), strict=True):
        assert not spec.is_open
        for field, name in {"bpm": "bpm", "keyscale": "keyscale", "timesignature": "timesignature"}.items():
            allowed = take.spec.bounds.choices(field) if take.spec.bounds else ()
            assert getattr(spec, name) in (allowed or (getattr(take.spec, name),))
        lengths = take.spec.bounds.choices("duration") if take.spec.bounds else ()
        assert spec.duration_s in (lengths or (take.spec.duration_s,))
        for name in ("caption", "lyrics", "language", "model", "diffusion", "master"):
            assert getattr(spec, name) == getattr(take.spec, name)


def test_neighbours_do_not_matter(planner):
    together = filled(planner, mixed_takes())
    assert [filled(planner, [take])[0] for take in mixed_takes()] == together
    assert filled(planner, mixed_takes()[::-1]) == together[::-1]


def test_neighbours_do_not_matter_in_bfloat16(folder, tmp_path):
    compact = shutil.copytree(folder, tmp_path / "planner")
    config = json.loads((compact / "config.json").read_text())
    (compact / "config.json").write_text(json.dumps({**config, "context_tokens": 4096}))
    planner = Planner.load(compact, device=CPU, dtype=torch.bfloat16)
    takes = [a_take(an_open_spec(caption="Slow piano " * slot), slot) for slot in range(1, 9)]
    together = filled(planner, takes)
    assert [filled(planner, [take])[0] for take in takes] == together
    assert filled(planner, takes[::-1]) == together[::-1]
    assert len({spec.music for spec in together}) > 1


def test_seeds_change_the_choice(planner):
    chosen = filled(planner, [a_take(an_open_spec(), slot) for slot in range(1, 25)])
    assert len({spec.music for spec in chosen}) > 3
    assert filled(planner, [a_take(an_open_spec(), 5)])[0] == chosen[4]


@torch.inference_mode()
def plainly_filled(planner: Planner, take: Take) -> TrackSpec:
    """What should be chosen: no batch, no cache, no grammar engine; every possible block tried letter by letter."""
    template = MetadataTemplate.of(take.spec)
    texts = ["".join(parts).encode() for parts in itertools.product(*template.parts)]
    prompt = planner._encode(render_opening(planner.tokenizer, take.spec, template.lead))
    # The tiny tokenizer's words are single bytes, so the id of a byte is that of the character it stands for.
    of_byte = {planner_id_byte(planner, token): token for token in range(planner.vocabulary.first_code - 5)}
    written = b""
    while written not in texts:
        ahead = {text[len(written)] for text in texts if text.startswith(written)}
        ids = torch.tensor(sorted(of_byte[byte] for byte in ahead))
        read = torch.tensor([[*prompt, *(of_byte[byte] for byte in written)]])
        logits = planner.model(read, logits_to_keep=1).logits[0, -1, ids].float()
        noise = gumbel_noise(torch.tensor(take.lm_seed ^ 0x66696C6C), len(written), ids)
        token = int(ids[(logits / template.temperature + noise).argmax()])
        written += bytes([planner_id_byte(planner, token)])
    found = dict(line.split(": ") for line in (template.lead + written.decode()).splitlines())
    return with_metadata(take.spec, {name: int(value) if value.isdecimal() else value for name, value in found.items()})


def planner_id_byte(planner: Planner, token: int) -> int:
    from transformers.convert_slow_tokenizer import bytes_to_unicode

    names = {name: byte for byte, name in bytes_to_unicode().items()}
    return names[planner.tokenizer.convert_ids_to_tokens(token)]


def test_the_choice_is_the_one_a_plain_loop_makes(planner):
    keys = ("A♭ minor", "Ab minor", "A minor", "F# major", "F major")
    small = [
        an_open_spec(Bounds(bpm=(95, 123), keyscales=keys)),
        an_open_spec(Bounds(bpm=(30, 300)), temperature=0.5),
        an_open_spec(Bounds(keyscales=ALL_KEYS, timesignatures=("2", "3", "4"))),
        an_open_spec(Bounds(duration_s=(60, 240), duration_step_s=15), caption="Soft rain " * 5),
    ]
    takes = [a_take(spec, slot) for slot, spec in enumerate(small * 3)]
    assert filled(planner, takes) == [plainly_filled(planner, take) for take in takes]


def test_a_filled_take_gets_the_codes_of_one_whose_values_were_given(planner):
    for take in mixed_takes()[1:3]:
        plan = planner.plan([take])[0]
        spec = with_metadata(take.spec, plan.metadata)
        given_take = take.model_copy(update={"track": take.track.model_copy(update={"spec": spec})})
        assert planner.plan([given_take])[0] == plan
        assert len(plan.codes) == spec.n_codes


def test_a_plan_names_what_was_chosen_even_outside_the_wanted_think_fields(planner):
    take = mixed_takes()[3]
    assert take.spec.planner is not None
    assert take.spec.planner.think_fields == ()
    plan = planner.plan([take])[0]
    assert list(plan.metadata) == ["duration"]
    assert len(plan.codes) == 5 * int(plan.metadata["duration"])


def test_further_takes_that_reuse_a_plan_get_the_same_one(planner):
    spec = an_open_spec(Bounds(bpm=(30, 300)))
    assert spec.planner is not None
    shared = TrackSpec(**{**spec.model_dump(), "planner": spec.planner.model_copy(update={"reuse": True})})
    first, second = (a_take(shared, number=number) for number in (1, 2))
    assert first.dit_seed != second.dit_seed
    assert planner.plan([second])[0] == planner.plan([first])[0]
    other = a_take(spec, number=2)
    assert planner.plan([other])[0].codes != planner.plan([first])[0].codes


def some_bounds() -> st.SearchStrategy[Bounds]:
    def ends(low: int, high: int):
        return st.tuples(st.integers(low, high), st.integers(low, high)).map(lambda pair: tuple(sorted(pair)))

    bounds = st.builds(
        Bounds,
        bpm=st.none() | ends(30, 300),
        keyscales=st.lists(st.sampled_from(sorted(ALL_KEYS)), max_size=5).map(tuple),
        timesignatures=st.lists(st.sampled_from(["2", "3", "4", "6"]), max_size=4).map(tuple),
        duration_s=st.none() | ends(10, 600),
        duration_step_s=st.integers(1, 60),
    )
    return bounds.filter(lambda each: each.open)


@given(
    some_bounds(),
    st.lists(st.sampled_from(EVERY_FIELD)).map(tuple),
    st.sampled_from(["Slow piano", "808", "yes", "a: b # c", "Ein 'schöner' Tag – " * 9, "- x"]),
    st.sampled_from(["no", "en"]),
    st.randoms(use_true_random=False),
)
def test_any_form_filled_in_is_the_block_that_the_codes_are_written_after(bounds, fields, caption, language, chance):
    spec = an_open_spec(bounds, think_fields=fields, caption=caption, language=language)
    template = MetadataTemplate.of(spec)
    chosen = {field: chance.choice(bounds.choices(field)) for field in bounds.open}
    done = with_metadata(spec, chosen)
    assert done.planner is not None
    block = think_block(think_metadata(done, done.planner)).removeprefix("<think>\n").removesuffix("</think>")
    assert block.startswith(template.lead)
    rest = block.removeprefix(template.lead)
    for part in template.parts:
        text = max((text for text in part if rest.startswith(text)), key=len)
        rest = rest.removeprefix(text)
        assert len(part) == 1 or text.endswith("\n")
    last = max(bounds.open)
    assert [line.split(":")[0] for line in rest.splitlines() if not line.startswith(" ")] == [
        field for field in sorted({*fields, *bounds.open}) if field > last
    ]


def reads(vocabulary: TextVocabulary, grammar: str, text: str) -> bool:
    matcher = LLMatcher(vocabulary.grammar_tokens, grammar)
    assert not matcher.is_error()
    return matcher.consume_tokens(vocabulary.grammar_tokens.tokenize_str(text)) and matcher.is_accepting()


def test_the_grammar_lets_every_published_value_pass_and_no_other(vocabulary):
    grammar = MetadataTemplate.of(an_open_spec(think_fields=EVERY_FIELD)).grammar
    block = " {}\ncaption: Slow piano\nduration: {}\nkeyscale: {}\nlanguage: unknown\ntimesignature: {}\n"
    assert MetadataTemplate.of(an_open_spec(think_fields=EVERY_FIELD)).lead == "bpm:"
    for key in ALL_KEYS:
        assert reads(vocabulary, grammar, block.format(30, 600, key, 4))
    for metre in (2, 3, 4, 6):
        assert reads(vocabulary, grammar, block.format(300, 10, "A♭ minor", metre))
    for bpm, duration in itertools.product((30, 31, 99, 100, 299, 300), (10, 11, 99, 100, 599, 600)):
        assert reads(vocabulary, grammar, block.format(bpm, duration, "C major", 6))
    wrong = [(29, 10, "C major", 4), (301, 10, "C major", 4), (30, 9, "C major", 4), (30, 601, "C major", 4)]
    for values in [*wrong, (30, 10, "H major", 4), (30, 10, "C", 4), (30, 10, "C major", 5), ("030", 10, "C major", 4)]:
        assert not reads(vocabulary, grammar, block.format(*values))


def test_keys_of_other_scripts_are_chosen_whole(planner):
    keys = ("A♭ minor", "E♯ major")
    takes = [a_take(an_open_spec(Bounds(keyscales=keys)), slot) for slot in range(1, 5)]
    assert {spec.keyscale for spec in filled(planner, takes)} <= set(keys)


def test_a_row_is_masked_only_where_there_is_something_to_choose(planner, monkeypatch):
    looked_at: list[int] = []
    plain = metadata._TemplateRow.allowed
    monkeypatch.setattr(
        metadata._TemplateRow, "allowed", lambda row: (looked_at.append(row.prompt.seed), plain(row))[1]
    )
    one, many = a_take(an_open_spec(Bounds(timesignatures=("3", "4"))), 1), a_take(an_open_spec(), 2)
    filled(planner, [one, many, a_take(an_open_spec(Bounds(bpm=(77, 77))), 3)])
    assert looked_at.count(one.lm_seed ^ 0x66696C6C) == 1
    assert len(looked_at) - 1 == looked_at.count(many.lm_seed ^ 0x66696C6C) > 3


def test_noise_of_choices_and_of_codes_have_nothing_in_common(planner):
    take = a_take(an_open_spec())
    assert planner._filler._prompt(take).seed != take.lm_seed


def test_the_prompt_of_the_choice_begins_the_prompt_of_the_codes(planner):
    for take in mixed_takes()[:3]:
        spec = filled(planner, [take])[0]
        assert spec.planner is not None
        opening = planner.tokenizer.decode(planner._filler._prompt(take).prompt)
        assert render_prompts(planner.tokenizer, spec, spec.planner).conditional.startswith(opening)
        assert opening.endswith(":")


def test_codes_that_do_not_come_last_are_left_in_the_vocabulary(folder):
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder, local_files_only=True)
    tokenizer.add_tokens(["keyscale"])
    vocabulary = read_vocabulary(tokenizer, len(tokenizer) + 10)
    text = TextVocabulary.of(tokenizer, vocabulary)
    assert text.end == len(tokenizer) > vocabulary.first_code
    assert reads(text, MetadataTemplate.of(an_open_spec(Bounds(bpm=(60, 62)))).grammar, " 61\n")


def test_a_model_without_numbers_is_damaged(folder):
    planner = Planner.load(folder, device=CPU, dtype=torch.float32)
    with torch.no_grad():
        planner.model.model.norm.weight.fill_(torch.nan)
    with pytest.raises(ModelError, match="not numbers"):
        filled(planner, [a_take(an_open_spec())])


def test_fields_are_listed_as_the_think_block_orders_them():
    assert list(OPEN_FIELDS) == sorted(OPEN_FIELDS)
    shuffled = list(OPEN_FIELDS)
    random.Random(1).shuffle(shuffled)
    assert PlannerSpec(metadata="fill", open=tuple(shuffled)).open == OPEN_FIELDS
