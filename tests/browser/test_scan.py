"""What a consumer sees: four packs that check, and nothing good said of anything that was touched."""

import base64
import json
import random
import re

import packs_of_years as years
import pytest
from packs_of_years import WRONG

from cloud.wiring import utc_now_ms
from traceability import TraceError
from traceability.keys import KeyKind, SigningKey
from traceability.notes import Note
from traceability.packs import Pack
from traceability.policy import Policy, Trusted

pytestmark = pytest.mark.browser
CHAINS = ("pork", "eggs", "citrus", "fish")
POSITIVE = ("核对通过", "没有被改过", "部分记录缺失")
SCRIPT = re.compile(r'(<script type="[^"]+" id="(\w+)">)(.*?)(</script>)', re.DOTALL)
HAN = re.compile("[\u4e00-\u9fff]")


@pytest.mark.parametrize("chain", CHAINS)
def test_the_pack_of_each_chain_is_checked_in_the_browser(open_page, lots, chain):
    page = open_page()
    page.goto(lots[chain])
    page.wait_for_selector("#verdict[data-state=passed]")
    assert "核对通过" in page.inner_text("#verdict h1")
    steps = page.locator(".journey li").count()
    assert steps >= 4
    assert page.locator(".journey li.is-checked").count() == steps


def flipped(text):
    """Base64 text with one bit of its first byte turned over."""
    raw = bytearray(base64.b64decode(text))
    raw[0] ^= 1
    return base64.b64encode(raw).decode()


def leaf_time(pack):
    pack["events"][0]["leaf"]["when"] += 1


def leaf_thing(pack):
    pack["events"][1]["leaf"]["outputs"].append("urn:tianmai:ear:150015300999999")


def disclosed_value(pack):
    opening = pack["events"][0]["disclosed"]["view"]
    opening["value"] = opening["value"].replace("示例", "真实", 1)


def salt(pack):
    opening = pack["events"][0]["disclosed"]["event"]
    opening["salt"] = flipped(opening["salt"])


def commitment(pack):
    commitments = pack["events"][0]["leaf"]["commitments"]
    commitments["view"] = flipped(commitments["view"])


def proof(pack):
    pack["events"][0]["proof"][0] = flipped(pack["events"][0]["proof"][0])


def shorter_proof(pack):
    pack["events"][0]["proof"].pop()


def index(pack):
    pack["events"][0]["index"] += 1


def root(pack):
    origin, size, root_text, *rest = pack["checkpoint"].split("\n")
    pack["checkpoint"] = "\n".join([origin, size, flipped(root_text), *rest])


def size(pack):
    origin, size_text, *rest = pack["checkpoint"].split("\n")
    pack["checkpoint"] = "\n".join([origin, str(int(size_text) + 1), *rest])


def signature(pack):
    head, _, blob = pack["checkpoint"].rstrip("\n").rpartition(" ")
    raw = bytearray(base64.b64decode(blob))
    raw[-1] ^= 1
    pack["checkpoint"] = f"{head} {base64.b64encode(raw).decode()}\n"


def extra_signature(pack):
    key = SigningKey.new("stranger.example/log")
    text = pack["checkpoint"].split("\n\n")[0] + "\n"
    blob = key.verifier.key_id.to_bytes(4, "big") + key.sign(text.encode())
    pack["checkpoint"] += f"\u2014 {key.verifier.name} {base64.b64encode(blob).decode()}\n"


def subject(pack):
    pack["subject"] = pack["subject"][:-1] + "Z"


def left_out(pack):
    del pack["events"][0]


def doubled(pack):
    pack["events"].insert(0, pack["events"][0])


def unknown_key(pack):
    pack["note"] = "checked"


TOUCHES = (
    leaf_time,
    leaf_thing,
    disclosed_value,
    salt,
    commitment,
    proof,
    shorter_proof,
    index,
    root,
    size,
    signature,
    extra_signature,
    subject,
    left_out,
    doubled,
    unknown_key,
)


def serve_changed(page, path, **changes):
    """Let the page at `path` arrive with the named data blocks (and "html") run through a function of their text."""

    def change(route):
        html = route.fetch().text()
        html = SCRIPT.sub(lambda m: m[1] + changes.get(m[2], lambda text: text)(m[3]) + m[4], html)
        route.fulfill(
            body=changes.get("html", lambda text: text)(html),
            content_type="text/html; charset=utf-8",
            headers={"Content-Security-Policy": "default-src 'self'; img-src 'self' data:"},
        )

    page.route(f"**{path}", change)


def in_pack(touch):
    """The touch as a change of the pack's text, written back in canonical form."""

    def change(text):
        pack = json.loads(text)
        touch(pack)
        canonical = json.dumps(pack, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
        return canonical.replace("<", "\\u003c")

    return change


def assert_nothing_good_is_said(page, state="mismatch"):
    page.wait_for_selector(f"#verdict[data-state={state}]")
    text = page.inner_text("body")
    assert [word for word in POSITIVE if word in text] == []
    assert page.locator(".is-checked").count() == 0


@pytest.fixture(scope="module")
def touched_page(chromium, site):
    """One page for all touched packs: sixteen of them need no sixteen browsers."""
    context = chromium.new_context(base_url=site)
    yield context.new_page()
    context.close()


@pytest.mark.parametrize(
    "touch", [leaf_time, disclosed_value, salt, proof, root, signature, left_out], ids=lambda touch: touch.__name__
)
def test_a_touched_pack_fails_and_nothing_good_is_said(touched_page, lots, touch):
    path = lots["pork"]
    serve_changed(touched_page, path, pack=in_pack(touch))
    touched_page.goto(path)
    assert_nothing_good_is_said(touched_page)
    touched_page.unroute_all()


CHECK_ALL = """async ([texts, policy]) => {
  const { check } = await import("/static/verify.js");
  const verdict = (text) => check(text, policy).then(() => "passed", (error) => error.rule ?? String(error));
  return Promise.all(texts.map(verdict));
}"""


def judged(page, texts, policy):
    """What the browser's checker says of each pack: "passed", or the rule that failed."""
    return page.evaluate(CHECK_ALL, [texts, json.loads(policy.to_json())])


def python_accepts(text, policy):
    """Whether the independent checker in Python accepts the pack."""
    try:
        Pack.parse(text.encode()).verify(policy, now_ms=utc_now_ms())
    except TraceError:
        return False
    return True


@pytest.fixture(scope="module")
def good(services, lots):
    """A good pack's text and the policy that trusts it."""
    found = services.provenance.consumer(lots["pork"], count_scan=False)
    return found.pack, Policy.parse(found.policy.encode())


def test_the_checker_names_the_rule_that_each_touch_breaks(touched_page, lots, good):
    text, policy = good
    touched_page.goto(lots["fish"])
    rules = judged(touched_page, [text, *(in_pack(touch)(text) for touch in TOUCHES)], policy)
    broken = dict(zip(["untouched", *(touch.__name__ for touch in TOUCHES)], rules, strict=True))
    assert broken == {
        "untouched": "passed",
        "leaf_time": "inclusion",
        "leaf_thing": "inclusion",
        "disclosed_value": "disclosed",
        "salt": "disclosed",
        "commitment": "inclusion",
        "proof": "inclusion",
        "shorter_proof": "inclusion",
        "index": "inclusion",
        "root": "log_key",
        "size": "log_key",
        "signature": "log_key",
        "extra_signature": "witness_key",
        "subject": "subject",
        "left_out": "passed",  # a shorter true story is still true; the page, which shows the step, refuses it
        "doubled": "order",
        "unknown_key": "form",
    }


def test_browser_and_python_agree_on_any_changed_byte(touched_page, lots, good):
    text, policy = good
    touched_page.goto(lots["fish"])
    chance, texts = random.Random(7), [text]
    for _ in range(150):
        at = chance.randrange(len(text))
        other = chance.choice('abcXYZ019+/="{}[],: \\n<\u00e9')
        texts.append(text[:at] + other + text[at + 1 :])
    said = judged(touched_page, texts, policy)
    assert [each == "passed" for each in said] == [python_accepts(each, policy) for each in texts]
    assert [each == "passed" for each in said] == [each == text for each in texts]


def test_the_browser_counts_witnesses_as_python_does(touched_page, lots, good):
    text, policy = good
    touched_page.goto(lots["fish"])
    now = utc_now_ms() // 1000
    witnesses = [SigningKey.new(f"witness-{n}.example/w", KeyKind.COSIGNATURE) for n in range(3)]
    trusting = Policy(policy.logs, tuple(Trusted(key.verifier) for key in witnesses), 2)

    def cosigned(*signers):
        pack = json.loads(text)
        note = Note.parse(pack["checkpoint"])
        for key, seconds in signers:
            note = note.with_signature(key, seconds=seconds)
        pack["checkpoint"] = note.whole
        return json.dumps(pack, ensure_ascii=False, sort_keys=True, separators=(",", ":")).replace("<", "\\u003c")

    one, two, three = witnesses
    texts = [
        cosigned(),
        cosigned((one, now)),
        cosigned((one, now), (two, now)),
        cosigned((one, now), (two, now), (three, now - 86_400)),
        cosigned((one, now), (one, now + 1)),
        cosigned((one, now), (two, now + 3_600)),
        cosigned((one, now), (SigningKey.new("stranger.example/w", KeyKind.COSIGNATURE), now)),
    ]
    said = judged(touched_page, texts, trusting)
    assert said == ["quorum", "quorum", "passed", "passed", "witness_key", "time", "witness_key"]
    assert [each == "passed" for each in said] == [python_accepts(each, trusting) for each in texts]


def test_a_pack_over_the_turn_of_a_year_is_judged_as_python_judges_it(touched_page, lots):
    touched_page.goto(lots["fish"])
    texts = [years.GOOD.decode(), *(text.decode() for text, _, _ in WRONG.values())]
    assert judged(touched_page, texts, years.POLICY) == ["passed", *(rule for _, _, rule in WRONG.values())]
    assert [python_accepts(text, years.POLICY) for text in texts] == [True, *(False for _ in WRONG)]
    assert judged(touched_page, texts[:1], years.ONLY_FIRST) == ["log_key"]
    assert not python_accepts(texts[0], years.ONLY_FIRST)
    chance, changed = random.Random(11), []
    for _ in range(80):
        at = chance.randrange(len(texts[0]))
        changed.append(texts[0][:at] + chance.choice('abXY019+/="{}[],: <') + texts[0][at + 1 :])
    said = [each == "passed" for each in judged(touched_page, changed, years.POLICY)]
    assert said == [python_accepts(each, years.POLICY) for each in changed] == [each == texts[0] for each in changed]


def test_a_pack_that_is_not_byte_for_byte_canonical_fails(touched_page, lots):
    serve_changed(touched_page, lots["eggs"], pack=lambda text: text.replace('"index":', '"index": ', 1))
    touched_page.goto(lots["eggs"])
    assert_nothing_good_is_said(touched_page)
    touched_page.unroute_all()


def test_a_pack_signed_by_another_key_fails(touched_page, lots):
    stranger = SigningKey.new("trace.tianmai.example/log1").verifier.vkey

    def other_key(text):
        policy = json.loads(text)
        policy["logs"][0]["vkey"] = stranger
        return json.dumps(policy)

    serve_changed(touched_page, lots["fish"], policy=other_key)
    touched_page.goto(lots["fish"])
    assert_nothing_good_is_said(touched_page)
    touched_page.unroute_all()


def test_a_good_pack_of_another_lot_fails(touched_page, lots, site):
    other = touched_page.context.request.get(lots["fish"]).text()
    pack = next(m[3] for m in SCRIPT.finditer(other) if m[2] == "pack")
    serve_changed(touched_page, lots["eggs"], pack=lambda _: pack)
    touched_page.goto(lots["eggs"])
    assert_nothing_good_is_said(touched_page)
    touched_page.unroute_all()


@pytest.mark.parametrize(
    ("shown", "instead"),
    [("双河街道高丰村", "万灵镇大荣村"), (">2026-11-", ">2025-11-"), ("示例屠宰厂", "另一家屠宰厂")],
)
def test_a_page_that_shows_something_else_than_its_pack_fails(touched_page, lots, shown, instead):
    def outside_scripts(html):
        cut = html.index('<script type="application/tianmai-pack')
        assert shown in html[:cut]
        return html[:cut].replace(shown, instead) + html[cut:]

    serve_changed(touched_page, lots["pork"], html=outside_scripts)
    touched_page.goto(lots["pork"])
    assert_nothing_good_is_said(touched_page)
    touched_page.unroute_all()


def test_a_log_that_shrank_since_the_last_visit_is_told(open_page, lots):
    page = open_page()
    page.goto(lots["eggs"])
    page.wait_for_selector("#verdict[data-state=passed]")
    page.evaluate("for (const key of Object.keys(localStorage)) localStorage.setItem(key, '99999 AAAA')")
    page.reload()
    assert_nothing_good_is_said(page)
    assert "退回" in page.inner_text("#verdict")


def test_a_log_with_another_root_at_the_same_size_is_told(open_page, lots):
    page = open_page()
    page.goto(lots["eggs"])
    page.wait_for_selector("#verdict[data-state=passed]")
    page.evaluate(
        "for (const key of Object.keys(localStorage)) "
        "localStorage.setItem(key, localStorage.getItem(key).split(' ')[0] + ' AAAA')"
    )
    page.reload()
    assert_nothing_good_is_said(page)
    assert "不是同一本" in page.inner_text("#verdict")


def test_without_scripts_every_fact_is_there_and_nothing_is_called_checked(open_page, lots):
    plain, full = open_page(java_script_enabled=False), open_page()
    plain.goto(lots["pork"])
    full.goto(lots["pork"])
    full.wait_for_selector("#verdict[data-state=passed]")
    for part in (".facts", ".said", ".journey", ".limits"):
        assert plain.locator(part).all_inner_texts() == full.locator(part).all_inner_texts()
    text = plain.inner_text("body")
    assert "尚未核对" in text
    assert "没有在您的浏览器里核对" in text
    assert [word for word in POSITIVE if word in text] == []


def test_without_crypto_the_page_says_that_it_cannot_check(open_page, lots):
    page = open_page()
    page.add_init_script("Object.defineProperty(Crypto.prototype, 'subtle', {get: () => undefined})")
    page.goto(lots["citrus"])
    assert_nothing_good_is_said(page, state="cannot")
    assert "不说明记录有问题" in page.inner_text("#verdict")


def without_native_ed25519(page):
    page.add_init_script(
        """const real = SubtleCrypto.prototype.importKey;
        SubtleCrypto.prototype.importKey = function (form, key, kind, ...rest) {
          if (kind === "Ed25519") return Promise.reject(new DOMException("unsupported", "NotSupportedError"));
          return real.call(this, form, key, kind, ...rest);
        };"""
    )


def test_an_older_browser_checks_with_the_bundled_signature_code(open_page, lots):
    page = open_page()
    without_native_ed25519(page)
    page.goto(lots["citrus"])
    page.wait_for_selector("#verdict[data-state=passed]")


def test_an_older_browser_without_the_bundle_says_that_it_cannot_check(open_page, lots):
    page = open_page()
    without_native_ed25519(page)
    page.route("**/dist/ed25519.js*", lambda route: route.abort())
    page.goto(lots["citrus"])
    assert_nothing_good_is_said(page, state="cannot")


def test_the_bundled_signature_code_refuses_what_is_wrong(open_page, lots):
    page = open_page()
    without_native_ed25519(page)
    serve_changed(page, lots["citrus"], pack=in_pack(signature))
    page.goto(lots["citrus"])
    assert_nothing_good_is_said(page)


def test_the_page_is_light_and_comes_in_three_requests(open_page, lots):
    page, sizes = open_page(), []
    page.on("requestfinished", lambda request: sizes.append(request.sizes()))
    page.goto(lots["pork"])
    page.wait_for_selector("#verdict[data-state=passed]")
    page.wait_for_load_state("networkidle")
    assert len(sizes) == 3
    assert sum(size["responseBodySize"] + size["responseHeadersSize"] for size in sizes) <= 30_000


def test_no_cookie_is_set_on_a_consumer(open_page, lots):
    page = open_page()
    page.goto(lots["pork"] + "?lang=en&size=large")
    assert page.context.cookies() == []


def test_the_page_is_complete_in_english(open_page, lots):
    page = open_page()
    page.goto(lots["fish"] + "?lang=en")
    page.wait_for_selector("#verdict[data-state=passed]")
    shell = page.evaluate(
        """() => ["#verdict", "h2", "dt", ".tag", "label", "button", ".button", ".limits", ".foot", ".journey", "title"]
          .flatMap((kind) => Array.from(document.querySelectorAll(kind), (part) => part.textContent)).join("\\n")"""
    )
    assert HAN.findall(shell) == []


@pytest.mark.parametrize("query", ["", "?lang=en", "?size=large", "?lang=en&size=large"])
def test_a_small_phone_never_scrolls_sideways(open_page, lots, query):
    page = open_page(viewport={"width": 360, "height": 640})
    for path in (lots["pork"], "/", "/01/02000015300018/10/NOPE"):
        page.goto(path + query)
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_large_type_is_large_enough_and_its_targets_too(open_page, lots):
    page = open_page(viewport={"width": 390, "height": 844})
    page.goto(lots["eggs"] + "?size=large")
    assert page.evaluate("parseFloat(getComputedStyle(document.querySelector('.facts')).fontSize)") >= 20
    boxes = page.evaluate("Array.from(document.querySelectorAll('.button'), (part) => part.offsetHeight)")
    assert min(boxes) >= 60
    assert "标准版" in page.inner_text(".tools")
    assert page.locator(".journey > li:visible").count() == 4
    page.click(".further summary")
    assert page.locator(".journey > li:visible").count() > 4


def test_an_unknown_code_is_called_unknown(open_page):
    page = open_page()
    answer = page.goto("/01/02000015300018/10/NOPE")
    assert answer.status == 404
    assert "查无此码" in page.inner_text("h1")
    answer = page.goto("/01/02000015300019/10/NOPE")
    assert answer.status in {404, 422}
    assert "查无此码" in page.inner_text("h1")


def test_a_problem_can_be_reported_without_signing_in(open_page, lots):
    page = open_page()
    page.goto(lots["eggs"])
    page.fill("textarea", "<b>包装破了</b>")
    page.click("form .button")
    assert re.search("R[0-9A-F]{8}", page.inner_text("main"))


def test_a_typed_code_leads_to_its_page_and_never_elsewhere(open_page, lots, site):
    page = open_page()
    page.goto("/")
    page.fill("#code", "https://id.gs1.org" + lots["fish"])
    page.click("form .button")
    assert page.url == site + lots["fish"]
    answer = page.goto("/find?code=https://elsewhere.example/phish")
    assert answer.status == 404


def test_a_recall_stands_above_a_good_proof(open_page, lots):
    page = open_page()
    serve_changed(page, lots["eggs"], html=lambda html: html.replace('data-state="unchecked"', 'data-state="recalled"'))
    page.goto(lots["eggs"])
    page.wait_for_selector(".journey li.is-checked")
    assert page.inner_text("#verdict h1") == "已召回，不要食用"
    assert "核对通过" not in page.inner_text("body")


def test_programs_get_links_instead_of_a_page(open_page, lots):
    page = open_page()
    ask = page.context.request
    answer = ask.get(lots["pork"], headers={"Accept": "application/linkset+json"})
    assert answer.headers["content-type"].startswith("application/linkset+json")
    assert "/01/02000015300018" in answer.json()["linkset"][0]["anchor"]
    answer = ask.get(lots["pork"] + "?linkType=gs1:nonsense")
    assert answer.status == 404
