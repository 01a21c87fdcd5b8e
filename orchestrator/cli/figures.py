"""The figures that scripts read: each name in a command's `--json`, with its kind, its unit and its meaning.

`reference.py` writes docs/metrics.md from these tables. A test runs every command named here and compares what it
prints with its table, so that a name which comes or goes needs its line here. A published name keeps its meaning.

A line is `name | kind | meaning`. `[]` stands for each entry of a list, `{zone}` for the name of each entry of an
object. A kind that ends in `?` may be null.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Kind(NamedTuple):
    """The JSON type of a figure and its unit."""

    may_be: type | tuple[type, ...]
    words: str
    unit: str


KINDS: Final = {
    "text": Kind(str, "text", ""),
    "any": Kind(object, "any", ""),
    "switch": Kind(bool, "true or false", ""),
    "count": Kind(int, "whole number", ""),
    "number": Kind((int, float), "number", ""),
    "share": Kind((int, float), "number", "1 = all"),
    "instant": Kind(int, "whole number", "milliseconds since 1970, UTC"),
    "date": Kind(str, "text", "day, as 2026-11-30"),
    "month": Kind(str, "text", "month, as 2026-11"),
    "ms": Kind(int, "whole number", "milliseconds"),
    "s": Kind((int, float), "number", "seconds"),
    "usd": Kind(int, "whole number", "micro-dollars"),
    "usd/h": Kind(int, "whole number", "micro-dollars an hour"),
    "MiB": Kind((int, float), "number", "MiB"),
    "GiB": Kind((int, float), "number", "GiB"),
    "lufs": Kind((int, float), "number", "LUFS"),
    "bpm": Kind(int, "whole number", "beats a minute"),
    "per min": Kind((int, float), "number", "takes a minute"),
}


class JsonFigure(NamedTuple):
    """One name of a command's JSON."""

    name: str
    kind: Kind
    is_nullable: bool
    meaning: str


class Document(NamedTuple):
    """The JSON document of one command."""

    command: str  # as typed, without `--json`
    says: str
    figures: tuple[JsonFigure, ...]


def _read(table: str, under: str = "") -> tuple[JsonFigure, ...]:
    rows = [[cell.strip() for cell in line.split("|")] for line in table.splitlines() if line]
    return tuple(
        JsonFigure(under + name, KINDS[kind.rstrip("?")], kind.endswith("?"), says) for name, kind, says in rows
    )


_TAKES: Final = """
waiting | count | takes that wait to be sent
sent | count | takes at a queue or in a worker's hands
accepted | count | takes that passed the checks and are stored
rejected | count | takes that the checks refused
failed | count | takes given up after their last try
cancelled | count | takes that `tunemill cancel` took off
total | count | all of these
"""
_STANDING: Final = """
new | count | takes that were never made
changed | count | takes whose preset differs from what was made
unchanged | count | takes that are made
unfinished | count | takes of a run that was begun and not ended
again | count | takes that are made in the place of rejected ones
to_finish | count | takes whose file alone is to be made anew, without a GPU
empty | count | of the unchanged: rejected, and no other take is made in their place
spare | count | of the unchanged: sound, and others of their tracks were chosen before them
to_choose_from | count | of all: more takes of their tracks than the catalog keeps
total | count | all of these but the last three
to_render | count | takes that a run would render
wanted | count | takes that the catalog is to list: the total less `to_choose_from`
kept | count | good takes that it lists
missing | count | the difference, at least 0
"""
_CHANGES: Final = """
changes.replaced.{place} | count | accepted tracks that a run replaces, by place
changes.retired.{place} | count | accepted tracks that leave the catalog, by place
changes.restored.{place} | count | retired tracks that come back, by place
"""
_WARNED: Final = """
warnings[] | text | faults that did not reject it, found by the checks or while mastering
flaws[].kind | text | of those of the checks: the kind of fault
flaws[].text | text | the warning
flaws[].value | number | the measured value
flaws[].limit | number | the limit that it passed
flaws[].unit | text | the unit of both; empty: none
flaws[].spans_s[][] | s | where it was found: begin and end of each place; none: the whole take
"""
_PLACE: Final = """
take_id | text | the take
track | text | the track's key: catalog, zone, genre, axes and number
number | count | the take's number, from 1
title | text | the track's title
catalog | text | the catalog, by the name that it has now
zone | text | the zone
genre | text | the genre
axes.{axis} | text | the track's value of each further axis
"""
_TRACK: Final = f"""
{_PLACE}caption | text | the text that the model read
bpm | bpm? | the tempo asked for, or chosen by the planner
keyscale | text | the key
timesignature | text | beats of a bar
duration_ms | ms | the length of the audio
loudness_lufs | lufs? | the measured integrated loudness of the file
dit_seed | count | the seed of the diffusion that was used
lm_seed | count | the seed of the planner that was used
model | text | the model
created_at_ms | instant | the end of the rendering
noise | switch | true: made with random weights, no music
order_known | switch | false: nothing proves that this take was ordered
sha256 | text | the checksum of the file
file | text | the path or the address of the file
{_WARNED}"""
_UNLISTED: Final = f"""
{_PLACE}state | text | rejected or spare
rejected_by | text? | checks, engine, listener or duplicates; null: the take is spare
reasons[] | text | why it was rejected, or which takes were chosen before it
at_ms | instant | when it was rejected or not chosen
dit_seed | count | the seed of the diffusion
lm_seed | count | the seed of the planner
model | text | the model
file | text? | the path or the address of the file; null: none was stored
{_WARNED}"""
_SAME_AS: Final = """
[].same_as | text? | the first take of its catalog that it sounds like; null: none
"""
_YIELD: Final = """
made | count | takes that were made: the next four
kept | count | of these: listed
spare | count | sound, and others of their tracks were chosen before them
rejected_by_checks | count | rejected by the checks or the engine, or as a duplicate
rejected_by_listeners | count | rejected by a listener
former | count | accepted, and no longer planned; not counted in `made`
warned | count | of the kept and spare ones: takes with warnings
failed_attempts | count | attempts that failed
engine_ms | ms | the engine's time for all attempts
usd_micros | usd? | the cost, as `costs report` has it; null: no price is known
wasted_usd_micros | usd? | of it: for rejected takes and failed attempts
kept_share | share? | kept takes of those made; null: none was made
"""
_USE: Final = """
ms | ms | all of the time
ms_by_state.{state} | ms | the time by use: startup, plan, render, idle, post, teardown, lost
idle_ms_by_cause.{cause} | ms | the idle time by cause
busy_share | share? | of the time with an engine up, the part that it worked on takes
waiting_for_post_share | share | of the same, the part that the engine waited for finished takes to be stored
"""
_SUMS: Final = """
accepted | count | takes that are kept or spare
attempts | count | tries at takes
audio_ms | ms | the length of the kept tracks together
direct_usd_micros | usd? | engine time of kept takes
wasted_usd_micros | usd? | takes that were rejected, failed or lost
idle_usd_micros | usd? | engine up, nothing to do
overhead_usd_micros | usd? | start-up, ending, unobserved time, disks, traffic
adjustment_usd_micros | usd? | credits and tax of no machine
loaded_usd_micros | usd? | direct and wasted
total_usd_micros | usd? | all of the above columns
usd_micros_per_accepted | usd? | the total for each of these takes
usd_micros_per_audio_min | usd? | the total for each minute of kept audio
direct_usd_micros_per_accepted | usd? | direct money for each kept track
unpriced_ms | ms | time whose price is unknown
usd_micros_by_category.{category} | usd | the total by category
"""
_PRICE: Final = """
sku | text | the price book's name of the card
match[] | text | parts of a driver's name that mean this card
market | text | on_demand or spot
usd_micros_per_h | usd/h | the price of one GPU
vram_gib | GiB | its memory
source | text | who says so, and when it was read
valid_from | date | its first day
provider | text | the provider; empty: any
region | text | the region; empty: any
file | text | the price file
layer | text | the layer of the price book: installed, home or yours
"""

_PLAN: Final = (
    *_read("""
catalog | text | the catalog
model | text | the model
planned | count | takes in the whole catalog
selected | count? | takes that the options select; null: all
"""),
    *_read(_STANDING, "takes."),
    *_read("""
tries | count | further takes that may be made for each one that is rejected
empty.out_of_tries | count | places that stay empty: every take that `tries` allows was rejected
empty.by_engine | count | places that stay empty: the engine refuses the track
empty.by_listener | count | places that stay empty: a listener rejected the take and asked for no other
keep | count | the best so many takes of each track are listed; 0: all
choose_by[] | text | the scores by which the best are found
unchosen.beyond | count | listed takes of finished tracks beyond what the catalog keeps
unchosen.to_list | count | spare takes of finished tracks that the catalog would keep
dropped | count | takes that the catalog no longer names
restored | count | takes that were retired and are wanted again
"""),
    *_read(_CHANGES),
    *_read("""
open_lengths | count | takes whose length the planner chooses
cells[].zone | text | the zone of the cell
cells[].genre | text | its genre
cells[].axes.{axis} | text | its value of each further axis
"""),
    *_read(_STANDING, "cells[]."),
    *_read("""
buckets[].model | text | what the takes of a bucket share: the model
buckets[].planner | text? | the planner's model; null: without
buckets[].steps | count | steps of the diffusion
buckets[].shift | number | how the steps are spaced
buckets[].duration_s | s | the length of each take
buckets[].takes | count | takes to render
buckets[].audio_s | s | their audio together
buckets[].engine_ms | ms | the engine's time for them
buckets[].basis | text | measured, arithmetic or assumed
buckets[].note | text | what the basis rests on
estimate.takes | count | takes to render
estimate.audio_s | s | their audio together
estimate.gpu | text | the card that the estimate is for
estimate.gpu_ms | ms | likely GPU time
estimate.gpu_ms_range.low | ms | GPU time at best
estimate.gpu_ms_range.likely | ms | the same as `estimate.gpu_ms`
estimate.gpu_ms_range.high | ms | GPU time at worst
estimate.overhead_ms | ms | of the likely time: starting, stopping, waiting
estimate.usd_micros | usd? | likely cost; null: the card has no price
estimate.again_usd_micros | usd? | of that: for takes in the place of rejected ones
estimate.usd_micros_range.low | usd | cost at best
estimate.usd_micros_range.likely | usd | the same as `estimate.usd_micros`
estimate.usd_micros_range.high | usd | cost at worst
estimate.source | text | what the estimate rests on
estimate.reject_rate | share | takes that the checks are expected to refuse
estimate.expected_accepted | count | takes that are expected to be kept
"""),
    *_read(_PRICE, "estimate.price."),
    *_read("""
notes[] | text | remarks, as they are printed
tracks[].change | text | with `--changes`: new, again, changed, retired or restored
tracks[].track | text | the track's key
tracks[].number | count | the take's number
tracks[].zone | text | the zone
tracks[].genre | text | the genre
tracks[].axes.{axis} | text | the value of each further axis
tracks[].title | text | the title
tracks[].take_id | text | the take
tracks[].replaces | text? | the take whose place it takes
tracks[].accepted_leaves | switch | true: an accepted track leaves the catalog
tracks[].differs.{key}[] | any | what was made, then what is planned
"""),
)
_RUN: Final = (
    *_read("""
catalog | text | the catalog
run_id | text | the run
model | text | the model
ending | text | done, refused, interrupted, cancelled or left
"""),
    *_read(_TAKES, "takes."),
    *_read("""
takes.made_again | count | of the rejected takes: their places have passed to other takes, or enough others are good
duplicates.listed | count | tracks of the run that sound like an earlier one of the catalog
duplicates.rejected | count | accepted takes that were the same as another, and were rejected to be made again
warned.takes | count | accepted takes with warnings
warned.by_kind.{kind} | count | the same by kind of warning; a take counts for each of its kinds
rejected.{reason} | count | takes that the checks refused, by reason
rejected_takes.{reason}[].take_id | text | these takes
rejected_takes.{reason}[].track_key | text | their tracks
rejected_takes.{reason}[].number | count | their numbers
failed.{reason} | count | takes that failed, by reason
failed_takes.{reason}[].take_id | text | these takes
failed_takes.{reason}[].track_key | text | their tracks
failed_takes.{reason}[].number | count | their numbers
duration_ms | ms | the time that the command took
usd_micros | usd? | the estimated cost so far; null: some time has no price
unpriced[] | text | cards without a price
noise | switch | true: some track was made with random weights
store | text | the store
"""),
    *_read(_TRACK, "tracks[]."),
    *_read("""
selected | count? | takes that the options selected; null: all
planned | count | takes in the whole catalog
"""),
    *_read(_STANDING, "plan."),
    *_read(_CHANGES),
)
_STATUS: Final = (
    *_read("""
runs[].run_id | text | the run, newest first
runs[].catalog | text | the catalog, by the name that it had
runs[].catalog_now | text | the catalog, by the name that it has now
runs[].model | text | the model
runs[].state | text | active or finished
runs[].shown_state | text | the same, or paused or cancelling
runs[].wish | text | what somebody asked of the run: pause, cancel or nothing
runs[].wished_at_ms | instant? | when that was
runs[].started_at_ms | instant | its start
runs[].finished_at_ms | instant? | its end
runs[].max_usd_micros | usd? | its cap
runs[].take_usd_micros | usd? | what a take was expected to cost when it began
runs[].tries | count | further takes that may be made for each one that is rejected
runs[].duplicates | text | what becomes of takes that sound alike: warn, reroll or off
runs[].choose_by | text | the scores by which the best takes of a track are found; empty: all are listed
"""),
    *_read(_TAKES, "runs[].takes."),
    *_read("""
runs[].takes_per_min | per min? | the rate; null: not active
runs[].eta_ms | ms? | the time left at that rate
runs[].paid_meanwhile.machines | count | of a paused run: machines that are paid for
runs[].paid_meanwhile.usd_micros_per_h | usd/h? | what they cost together
runs[].paid_meanwhile.usd_micros | usd? | what they have cost since the pause
runs[].usd_micros | usd? | the estimated cost so far; null: some time has no price
workers[].worker_id | text | the worker, newest first
workers[].state | text | alive, silent or ended
workers[].host | text | its machine
workers[].gpu | text | its card
workers[].vram_gib | GiB | the card's memory
workers[].lane | text | its device on the machine
workers[].login | text | its login at the broker
workers[].model | text | the model
workers[].model_fingerprint | text | the checksum of the weights
workers[].code | text | the version of the program
workers[].noise | switch | true: random weights
workers[].batch_limit | count | takes in a model call at most
workers[].batch_limit_reason | text | where the limit comes from
workers[].plan_limit | count | takes in a planner call at most
workers[].holds_max | count | takes in hand at most
workers[].holds | count | takes in hand
workers[].started_at_ms | instant | its start, by its own clock
workers[].last_seen_ms | instant | its latest word, by its own clock
workers[].heard_at_ms | instant | its latest word, by the controller's clock
workers[].clock_ahead_ms | ms | its clock less the controller's
workers[].last_beat | count | the number of its latest heartbeat
workers[].last_record | count | the number of its latest record
workers[].ended_at_ms | instant? | its end
workers[].end_reason | text? | why it ended
workers[].rental_id | text | its rented machine
workers[].price_sku | text? | the price that it was given
workers[].price_source | text? | where the price comes from
workers[].rate_usd_micros_per_h | usd/h? | the price; null: unknown
workers[].tally_spans_ms | ms | for the program itself: how far its time is added up
workers[].tally_attempts_ms | ms | likewise
workers[].tally_reached_ms | ms | likewise
workers[].rss_mib | MiB? | its engine's memory
workers[].device_mib | MiB? | its engine's memory on the GPU
workers[].growth_mib_per_100_takes | MiB? | the growth of both
"""),
    *_read(_USE, "workers[].use_of_last_hour."),
    *_read("""
workers[].warnings[] | text | what somebody should mend
queues.{queue} | count | messages at each queue; `queues` is null when no broker answers
dead | count | takes that failed for good
records_set_aside | count | records that were set aside
"""),
)
_REPORT: Final = (
    *_read("""
by[] | text | what the rows are cut by
period | month? | the month; null: all
run | text? | only of this run
catalog | text? | only of this catalog
zone | text? | only of this zone
genre | text? | only of this genre
provider | text? | only of this provider
gpu | text? | only of this card
currency | text | USD
estimate_from[] | text | the prices that estimates rest on
coverage.usd_micros.{kind} | usd | the money by what it rests on: billed, estimate, provisional
coverage.billed_share | share? | the part that is billed
coverage.unpriced_ms | ms | time whose price is unknown
coverage.complete_through_ms | instant | until when the books are complete
rows[].{cut} | text | what the row is about, one name for each of `by`
"""),
    *_read(_SUMS, "rows[]."),
    *_read(_SUMS, "total."),
    *_read("""
whole_usd_micros | usd | all that was spent, other catalogs included
share_of_whole | share? | the total's part of it
workers | count | workers whose time is in the report
workers_ms | ms | their lives
unpriced[].gpu | text | a card without a price
unpriced[].first_ms | instant | the start of the first worker on it
unpriced[].ms | ms | the time of all of them
"""),
    *_read(_USE, "use."),
)
_FORECAST: Final = _read("""
currency | text | USD
forecasts[].catalog | text | the catalog
forecasts[].tracks | count | tracks that the forecast is for
forecasts[].usd_micros | usd | the likely cost
forecasts[].low_usd_micros | usd | the low end
forecasts[].high_usd_micros | usd | the high end
forecasts[].runs | count | finished runs that it rests on
forecasts[].confidence | text | how much they say
forecasts[].past_error | share? | how far off the same forecast was for past runs
baseline.name | text | what a bought song is compared by
baseline.source | text | who says so
baseline.valid_from | date | the first day of its price
baseline.usd_micros_per_song | usd | its price
baseline.songs_per_request | count | songs that are paid for each one kept
baseline.tracks | count | tracks kept so far
baseline.bought_usd_micros | usd | what they would have cost
baseline.own_usd_micros | usd | what they did cost
baseline.own_usd_micros_per_track | usd | the same for each
baseline.break_even.{card} | count? | kept tracks an hour from which on rendering is cheaper
baseline.saved_usd_micros | usd | bought less own
""")
_INVOICES: Final = _read("""
currency | text | USD
invoices[].invoice_id | text | the checksum of the file
invoices[].provider | text | the provider
invoices[].number | text | the invoice's number
invoices[].currency | text | the currency of the file
invoices[].total_usd_micros | usd | its total
invoices[].topup_usd_micros | usd | money paid in advance, no expense
invoices[].start_ms | instant | the start of what it bills
invoices[].end_ms | instant | the end
invoices[].file_name | text | the file
invoices[].imported_ms | instant | when it was imported
invoices[].replaces | text? | the invoice whose place it takes
invoices[].replaced_by | text? | the invoice that took its place
invoices[].lines | count | its lines
""")
_RECONCILE: Final = _read("""
period | month | the month
currency | text | USD
matches[].finding | text | matched, price variance, quantity variance, line without rental or rental without line
matches[].provider | text | the provider
matches[].external_id | text | its name of the machine
matches[].meter | text | what was billed: gpu, disk, ...
matches[].period | month | the month
matches[].expected_usd_micros | usd? | what was expected
matches[].billed_usd_micros | usd? | what was billed
matches[].expected_ms | ms? | the time that was expected
matches[].billed_ms | ms? | the time that was billed
matches[].difference_usd_micros | usd? | billed less expected
matches[].note | text | remarks
""")
_PERIODS: Final = _read("""
time_zone | text | where months begin and end
currency | text | USD
periods[].period | month | the month
periods[].state | text | open or closed
periods[].usd_micros | usd | what is booked in it
periods[].closed_ms | instant | of a closed month: when it was closed
periods[].closed_by | text | by whom
periods[].time_zone | text | the time zone that it was closed in
periods[].high_water_id | count | its last entry
periods[].entries | count | the number of its entries
periods[].control_usd_micros | usd | their sum
periods[].sha256 | text | their checksum
""")
_BUDGETS: Final = _read("""
period | month | the month
currency | text | USD
budgets[].scope | text | month, catalog or run
budgets[].name | text | the catalog or the run
budgets[].period | month? | its month; null: every month
budgets[].usd_micros | usd | the budget
budgets[].spent_usd_micros | usd | what is spent of it
budgets[].left_usd_micros | usd | what is left; negative: over
""")
_RENTALS: Final = _read("""
rentals[].rental_id | text | the machine, as provider/id
rentals[].provider | text | the provider
rentals[].external_id | text | its name of the machine
rentals[].gpu | text | the card
rentals[].gpu_count | count | the number of GPUs
rentals[].market | text | on_demand or spot
rentals[].region | text | the region
rentals[].account | text | the account that is billed
rentals[].run_id | text? | the run that it was rented for
rentals[].rate_usd_micros_per_h | usd/h? | the agreed price of one GPU
rentals[].billed_start_ms | instant? | the start of the paid time
rentals[].billed_end_ms | instant? | its end
rentals[].workers | count | workers that ran on it
""")
_PRICES: Final = (
    *_read("""
folder | text | your own folder of prices
layers[].name | text | a layer of the price book
layers[].folder | text | its folder
currency | text | USD
"""),
    *_read(_PRICE, "prices[]."),
    *_read("""
prices[].in_force | switch | true: it counts today
unit_prices[].sku | text | the price book's name
unit_prices[].unit | text | what is priced: song, gib_month, ...
unit_prices[].usd_micros | usd | the price of one
unit_prices[].songs_per_request | count | songs that one request pays for
unit_prices[].provider | text | the provider
unit_prices[].region | text | the region
unit_prices[].source | text | who says so
unit_prices[].valid_from | date | its first day
unit_prices[].file | text | the price file
unit_prices[].layer | text | the layer of the price book
unit_prices[].in_force | switch | true: it counts today
"""),
)
_VERIFY: Final = _read("""
catalogs[] | text | what was compared
quick | switch | true: sizes alone
accepted | count | accepted takes on the ledger
on_their_way | count | takes that are still to be made
sidecars | count | sidecars in the store
audio | count | audio objects in the store
counts.{finding} | count | findings by kind
findings[].kind | text | the kind
findings[].catalog | text | the catalog
findings[].take_id | text | the take
findings[].key | text | the object
findings[].detail | text | what is wrong with it
""")
_YIELDS: Final = (
    *_read("""
catalog | text | the catalog
by | text | how takes are grouped
currency | text | USD
unpriced[] | text | GPUs without a price, whose time is not in the money
rows[].name | text | the group
"""),
    *_read(_YIELD, "rows[]."),
    *_read(_YIELD, "total."),
)
_DEAD: Final = _read("""
[].take_id | text | a take that failed for good
[].catalog | text | its catalog
[].track_key | text | its track
[].number | count | the take's number
[].title | text | its title
[].tries | count | tries that failed
[].losses | count | times that it was lost with a worker
[].reasons[] | text | the errors
""")
_RECORDS: Final = _read("""
[].digest | text | the record
[].set_aside_ms | instant | when it was set aside
[].login | text | the login that sent it
[].worker_id | text | the worker that it names
[].kind | text | the kind of record
[].version | count | its version
[].fault | text | the kind of fault
[].reason | text | why it was set aside
[].size_bytes | count | its size in bytes
[].is_due | switch | true: it is tried again at the next step
""")
_LOGINS: Final = _read("""
[].login | text | the login; empty: workers without one
[].made_at_ms | instant? | when it was made
[].ended_at_ms | instant? | when it was ended
[].workers | count | its workers
[].living | count | those that have not ended
[].heard_at_ms | instant? | the latest word of one
[].accepted | count | takes accepted
[].rejected | count | takes that the checks refused
[].failed | count | takes that failed
[].rejected_share | share? | rejected of accepted and rejected
""")

DOCUMENTS: Final = (
    Document("plan", "what a run would make, and its estimate", _PLAN),
    Document("run", "what a run made; `refresh` prints the same", _RUN),
    Document("status", "runs, workers and queues at this moment", _STATUS),
    Document("status --dead", "takes that failed for good", _DEAD),
    Document("catalog list", "the finished tracks", (*_read(_TRACK, "[]."), *_read(_SAME_AS))),
    Document("catalog list --rejected --spare", "takes that are not listed", _read(_UNLISTED, "[].")),
    Document("catalog yield", "how many takes are kept, and what the others cost", _YIELDS),
    Document("catalog verify", "whether ledger and store agree", _VERIFY),
    Document("costs report", "what was spent", _REPORT),
    Document("costs forecast", "what more tracks would cost", _FORECAST),
    Document("costs invoices", "the imported invoices", _INVOICES),
    Document("costs reconcile", "invoices against rentals", _RECONCILE),
    Document("costs periods", "the months on the books", _PERIODS),
    Document("costs budgets list", "budgets and what is left of them", _BUDGETS),
    Document("costs rentals list", "the rented machines", _RENTALS),
    Document("costs prices list", "the price book", _PRICES),
    Document("records list", "records that were set aside", _RECORDS),
    Document("worker-login list", "the workers' logins", _LOGINS),
)
