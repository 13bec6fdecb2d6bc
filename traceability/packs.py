r"""The proof pack: everything needed to check one code offline, in one small file.

File
    Canonical JSON (`canon.encode`) in which every "<" is written `\u003c`, so that the text may stand inside an HTML
    page: JavaScript's twin is JSON.stringify of sorted objects, then .replace(/</g, "\\u003c"). A file that is not
    byte-equal to its own re-encoding is refused; unknown or missing keys are refused; at most 1 MiB and 500 events.

    {"checkpoint": "<signed note>", "events": [EVENT, ...], "format": "tianmai-pack@1", "subject": "<Digital Link URI>"}
    EVENT = {"disclosed": {"field": {"salt": "<b64 of 16 bytes>", "value": JSON}, ...},
             "index": n, "leaf": LEAF, "proof": ["<b64 of 32 bytes>", ...]}
    LEAF  = {"format": "tianmai-leaf@1", "when": <int, ms UTC of the event>, "what": "<business step, short CBV word>",
             "inputs": ["<identifier>", ...], "outputs": ["<identifier>", ...],
             "commitments": {"field": "<b64 of SHA-256(salt || canonical JSON of the value)>", ...},
             ... further public fields, any JSON without fractions ...}
    Field names are [a-z][a-z0-9_]{0,47}. Base64 is the standard alphabet, padded, canonical. The leaf's entry in the
    log is the plain canonical JSON of LEAF (there "<" stays "<"); its leaf hash is SHA-256(0x00 || entry), RFC 6962.

    `inputs` are the things an event used up or looked at, `outputs` the things that left it (what is merely moved,
    watched or packed stands in `outputs`). Well-known further names, public or disclosed: `who`, `where`, `lot`,
    `product`, `quantity`, `event` (the EPCIS event id). Names of people, phones, exact places, and hashes that
    could be guessed back to them (an EPCIS event hash can be) belong into commitments.

What must hold (in this order; the first failure is reported with the event's number, counted from 1)
    1. The file is in the form above.
    2. `checkpoint` is a signed note: text of exactly three lines (origin, decimal size, b64 root), a blank line, then
       signature lines. The first is the log's, the rest are cosignatures by distinct witnesses; EVERY line must be by
       a key of the policy and verify (a line nobody can check would be a byte without meaning). At least `quorum`
       witnesses. Ed25519 by the strict rule of `keys.verify_ed25519`; type byte 1 = signature over the text, type
       byte 4 = cosignature/v1: 8 bytes of seconds, big endian, then a signature over
       "cosignature/v1\ntime <seconds>\n" + text.
    3. The log's key is valid at the times its witnesses state (without witnesses: now); no time lies in the future.
    4. Every event's leaf is in the tree of the checkpoint at `index` (RFC 6962 inclusion proof).
    5. Every disclosed field opens its commitment; it is not also a public field.
    6. Events stand in ascending order of (`when`, `index`), each index once.
    7. The last event's `outputs` contain `subject`; and walking from the last event to the first, the `outputs` of each
       meet the set of things already reached ({subject} plus inputs and outputs of the later events): no event of
       another animal's life can be slipped in.

So nothing in a pack lies outside the hash, and any one changed byte makes it fail.
"""
