"""What each chain demands at each step, as data with sources, and the pure engine that applies it.

`judge` takes one event, what is already known of the same things (`history`) and facts from outside the chain
(`Facts`: pond temperatures, registered vehicles), and answers with a `Verdict`: allowed, amber (go on,
somebody must look) or refused. Each finding names its rule, says it in Chinese and English, quotes the legal
source and, where waiting helps, the earliest legal date. The packs under ``packs/`` are tables; adding a drug
is adding a row with its source.

Own fields of events that rules read (all under ``tm:``, see `traceability.events`):

    tm:treatment          {substance, route?, product?, dose?, withdrawalDays?}  on step urn:tianmai:step:treating
    tm:quarantine         {number, kind, vehicle, issued, tags?}  the certificate that travels with or allows a load
    tm:vehicle            the plate of the lorry that really drives
    tm:papers             [kind, ...]  papers and stamps seen at release
    tm:asfTest            {method: pcr|strip, result: negative|positive, number}
    tm:headCount          {pen, count}  animals counted in a pen
    tm:destinationRegion  six digits, GB/T 2260
    tm:conformityPromise  {product, quantity, origin, date, promisor, contact}
    ilmd.tm:origin        [thing, ...]  the flock, plot or pond a new lot comes from, which lives on
"""

from traceability.chain_rules.engine import judge
from traceability.chain_rules.pack import CHAINS, RulePack, load_pack
from traceability.chain_rules.verdict import Facts, Finding, Verdict

__all__ = ["CHAINS", "Facts", "Finding", "RulePack", "Verdict", "judge", "load_pack"]
