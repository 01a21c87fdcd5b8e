"""Examples: a valid value for each key of the preset language, which error messages propose.

For a key that is not named here, the default is the example.
"""

from __future__ import annotations

from typing import Any, Final

_CELL: Final = {"zone": "hotel_lobby", "genre": "bossa_nova"}

EXAMPLES: Final[dict[str, Any]] = {
    "name": "Hotel lobby",
    "title": "Spring",
    "description": "Guests arrive and wait.",
    "energy": 2,
    "tempo": [70, 110],
    "moods": ["warm", "polished", "unhurried", "welcoming"],
    "scenes": ["a hotel lobby", "guests arriving"],
    "avoid": ["harsh distortion", "lead vocals"],
    "loudness_lufs": -16,
    "title_words": ["Lobby", "Marble", "Arrival", "Atrium", "Foyer", "Lantern"],
    "captions": ["{mood} music with {instruments}", "{instruments} in a {mood} mood"],
    "instruments": ["felt piano", "nylon guitar", "upright bass", "soft shaker"],
    "textures": ["a dry room", "tape saturation", "a wide image"],
    "keys": ["C major", "G major", "A minor", "D minor"],
    "timesignatures": [4],
    "duration_s": 120,
    "from": 120,
    "to": 180,
    "step": 30,
    "takes": 2,
    "planner": True,
    "lyrics": ["[Instrumental]"],
    "language": "en",
    "seed": 7,
    "checks": {"noise": "warn"},
    "tags": {"artist": "The Lobby Trio", "date": 2026},
    "artist": "The Lobby Trio",
    "date": "2026-05-01",
    "bitrate_kbps": 256,
    "vbr_quality": 0.8,
    "caption_suffix": "with soft strings",
    "defaults": {"takes": 2},
    "set": {"takes": 2},
    "extends": "hotel_lobby",
    "renamed_from": "old_name",
    "matrix": {"zones": ["hotel_lobby"], "genres": ["bossa_nova"]},
    "zones": ["hotel_lobby"],
    "genres": ["bossa_nova"],
    "zone": "hotel_lobby",
    "genre": "bossa_nova",
    "axes": {"season": {"summer": {}, "winter": {}}},
    "exclude": [_CELL],
    "include": [_CELL],
    "tempo_clashes": "exclude",
    "tracks": 12,
    "tracks_per_cell": 4,
    "weight": 2,
    "weights": [{"zone": "hotel_lobby", "weight": 2}],
    "quotas": [{"zone": "hotel_lobby", "tracks": 12}],
    "rules": [{"zone": "hotel_lobby", "set": {"takes": 2}}],
    "prompts": "prompts.csv",
    "masters": False,
    "duplicates": "reroll",
    "keep": 1,
    "choose_by": ["technical", "variation"],
}
