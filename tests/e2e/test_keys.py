"""Keys: one hand on any keyboard layout, never in the way of typing, and every act on another key if a person wants."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from django.template.loader import render_to_string

from tests.e2e.modules import ModuleSite, until

if TYPE_CHECKING:
    from playwright.sync_api import Page

FIELDS = """
<input id="text"><textarea id="area"></textarea><select id="choice"><option>1</option></select>
<div id="rich" contenteditable>words</div><input type="radio" id="radio"><input type="checkbox" id="box">
<button id="button">b</button><a id="link" href="#x">a</a>
<button id="act" data-act="undo"><kbd data-key="undo"></kbd> undo</button>
<dialog id="dialog"><p>Why?</p><button>ok</button></dialog>
"""
START = """async () => {
  const { Keymap, listen, showLabels } = await import("/static/js/label/keys.js");
  window.acts = [];
  window.keymap = new Keymap();
  listen((act) => { acts.push(act); return act !== "skip"; }, keymap);
  showLabels(keymap);
  window.press = (init) => {
    const event = new KeyboardEvent("keydown", { bubbles: true, cancelable: true, composed: true, ...init });
    (document.activeElement ?? document.body).dispatchEvent(event);
    return event.defaultPrevented;
  };
}"""


@pytest.fixture
def keys(page: Page) -> Page:
    return ModuleSite(page.context, FIELDS).open(page, START)


@pytest.fixture
def sheet(page: Page) -> Page:
    """The page with the sheet of keys open; `window.saved` is what was last sent to the server."""
    site = ModuleSite(page.context, FIELDS + render_to_string("label/_keys.html"))
    site.open(page, START)
    page.evaluate(
        """async () => {
             const { mountKeySheet } = await import("/static/js/label/keysheet.js");
             window.offline = false;
             mountKeySheet(keymap, async (own) => {
               if (window.offline) throw new Error("offline");
               window.saved = own;
             });
             document.getElementById("dialog-keys").showModal();
           }"""
    )
    return page


def acts(page: Page) -> list[str]:
    """The acts since the last call."""
    names: list[str] = page.evaluate("acts.splice(0)")
    return names


def press(page: Page, key: str, code: str = "", **more: Any) -> list[str]:
    """The acts that a key event leads to."""
    page.evaluate("(init) => press(init)", {"key": key, "code": code, **more})
    return acts(page)


def test_each_act_has_its_key(keys: Page) -> None:
    for key in ["1", "2", "3", "4", "u", "z", "Enter", "Space", "ArrowUp", "w", "ArrowDown", "s"]:
        keys.keyboard.press(key)
    assert acts(keys) == [
        "bad",
        "neutral",
        "good",
        "fourth",
        "unsure",
        "undo",
        "submit",
        "submit",
        "up",
        "up",
        "down",
        "down",
    ]
    for key in ["e", "c", "a", "b", "x", "n", "g", "?"]:
        keys.keyboard.press(key)
    assert acts(keys) == ["earlier", "comment", "report_answer", "bad_problem", "give_up", "skip", "guideline", "keys"]


LAYOUTS: list[tuple[str, dict[str, Any], str | None]] = [
    ("US", {"key": "1", "code": "Digit1"}, "bad"),
    ("number pad", {"key": "2", "code": "Numpad2"}, "neutral"),
    ("number pad without NumLock", {"key": "PageDown", "code": "Numpad3"}, "good"),
    ("number pad", {"key": "Enter", "code": "NumpadEnter"}, "submit"),
    ("Caps Lock", {"key": "U", "code": "KeyU"}, "unsure"),
    ("AZERTY digit", {"key": "&", "code": "Digit1"}, "bad"),
    ("AZERTY digit", {"key": "é", "code": "Digit2"}, "neutral"),
    ("AZERTY digit with Shift", {"key": "1", "code": "Digit1", "shiftKey": True}, "bad"),
    ("AZERTY z is where QWERTY has w", {"key": "z", "code": "KeyW"}, "undo"),
    ("AZERTY w is where QWERTY has z", {"key": "w", "code": "KeyZ"}, "up"),
    ("AZERTY ?", {"key": "?", "code": "KeyM", "shiftKey": True}, "keys"),
    ("QWERTZ z", {"key": "z", "code": "KeyY"}, "undo"),
    ("Czech digit", {"key": "+", "code": "Digit1"}, "bad"),
    ("Dvorak u", {"key": "u", "code": "KeyF"}, "unsure"),
    ("Dvorak comma, where QWERTY has w", {"key": ",", "code": "KeyW"}, None),
    ("Russian, u by place", {"key": "г", "code": "KeyU"}, "unsure"),
    ("Russian, Caps Lock", {"key": "Г", "code": "KeyU"}, "unsure"),
    ("Russian ?", {"key": "?", "code": "Digit7", "shiftKey": True}, "keys"),
    ("Greek", {"key": "ζ", "code": "KeyZ"}, "undo"),
    ("Arabic digit", {"key": "١", "code": "Digit1"}, "bad"),
    ("Persian letter", {"key": "ل", "code": "KeyG"}, "guideline"),
    ("Japanese input method", {"key": "Process", "code": "KeyU"}, "unsure"),
    ("Japanese full width", {"key": "３", "code": "Digit3"}, "good"),
    ("a screen keyboard that names no place", {"key": "3", "code": ""}, "good"),
]


def test_layouts(keys: Page) -> None:
    for layout, event, act in LAYOUTS:
        assert press(keys, **event) == ([act] if act else []), layout


def test_keys_with_modifiers_belong_to_others(keys: Page) -> None:
    for modifier in ["ctrlKey", "altKey", "metaKey", "shiftKey", "isComposing"]:
        for key, code in [("u", "KeyU"), (" ", "Space"), ("Enter", "Enter"), ("ArrowUp", "ArrowUp")]:
            assert press(keys, key, code, **{modifier: True}) == [], modifier


def test_keys_rest_while_typing(keys: Page) -> None:
    for field in ["text", "area", "choice", "rich"]:
        keys.focus(f"#{field}")
        for key in ["1", "u", "Enter", "?", "ArrowUp"]:
            assert press(keys, key) == [], field


def test_keys_rest_in_a_dialog_wherever_the_focus_is(keys: Page) -> None:
    keys.evaluate("document.getElementById('dialog').showModal()")
    assert press(keys, "1", "Digit1") == []
    keys.evaluate("document.activeElement.blur()")
    assert press(keys, "1", "Digit1") == []
    keys.evaluate("document.getElementById('dialog').close()")
    assert press(keys, "1", "Digit1") == ["bad"]


def test_a_focused_control_keeps_its_own_keys_and_no_others(keys: Page) -> None:
    for control in ["button", "link", "radio", "box"]:
        keys.focus(f"#{control}")
        assert press(keys, "Enter", "Enter") == [], control
        assert press(keys, " ", "Space") == [], control
        assert press(keys, "ArrowUp", "ArrowUp") == ([] if control == "radio" else ["up"]), control
        assert press(keys, "1", "Digit1") == ["bad"], control


def test_a_held_key_repeats_moves_alone(keys: Page) -> None:
    assert press(keys, "ArrowDown", "ArrowDown", repeat=True) == ["down"]
    assert press(keys, "1", "Digit1", repeat=True) == []
    assert press(keys, "z", "KeyZ", repeat=True) == []


def test_a_key_that_was_used_does_nothing_else(keys: Page) -> None:
    assert keys.evaluate("press({ key: ' ', code: 'Space' })") is True
    assert keys.evaluate("press({ key: 'n', code: 'KeyN' })") is False  # the page answered: not used
    assert keys.evaluate("press({ key: 'q', code: 'KeyQ' })") is False
    assert acts(keys) == ["submit", "skip"]


def test_a_click_performs_the_act_and_leaves_no_focus_behind(keys: Page) -> None:
    keys.click("#act kbd")
    assert acts(keys) == ["undo"]
    keys.keyboard.press("Enter")
    assert acts(keys) == ["submit"]
    keys.focus("#act")
    keys.keyboard.press("Enter")  # by keyboard the focus stays
    assert acts(keys) == ["undo"]
    assert keys.evaluate("document.activeElement.id") == "act"


def test_own_keys_replace_the_usual_ones_of_an_act(keys: Page) -> None:
    keys.evaluate("keymap.replace({ bad: ['j'], unsure: ['1'], nonsense: ['k'], good: [] })")
    assert press(keys, "j", "KeyJ") == ["bad"]
    assert press(keys, "1", "Digit1") == ["unsure"]
    assert press(keys, "о", "KeyJ") == ["bad"]  # by place on a Russian keyboard
    assert press(keys, "3", "Digit3") == ["good"]
    assert press(keys, "k", "KeyK") == []


def test_an_own_key_wins_over_a_usual_one(keys: Page) -> None:
    """Keys that were free when they were chosen may come into use by a later version."""
    keys.evaluate("keymap.replace({ undo: ['c'] })")
    assert press(keys, "c", "KeyC") == ["undo"]


def test_the_page_shows_the_key(keys: Page) -> None:
    assert keys.inner_text("#act kbd") == "Z"
    label = """async () => {
      const { showLabels } = await import("/static/js/label/keys.js");
      keymap.addEventListener("change", () => showLabels(keymap));
      keymap.replace({ undo: ["ArrowLeft"] });
    }"""
    keys.evaluate(label)
    assert keys.inner_text("#act kbd") == "←"


# --- The sheet -------------------------------------------------------------------------------------------------------


def row(act: str) -> str:
    return f"[data-keys-of={act}]"


def caps(page: Page, act: str) -> str:
    return " ".join(page.locator(f"{row(act)} .keys-caps kbd").all_inner_texts())


def test_the_sheet_lists_every_act_with_its_keys(sheet: Page) -> None:
    listed = sheet.evaluate("[...document.querySelectorAll('[data-keys-of]')].map((row) => row.dataset.keysOf)")
    known = sheet.evaluate("async () => Object.keys((await import('/static/js/label/keys.js')).DEFAULTS)")
    assert listed == known
    assert caps(sheet, "bad") == "1"
    assert caps(sheet, "up") == "↑ W"
    assert caps(sheet, "submit") == "Enter Space"


def test_a_key_is_changed_by_keyboard_alone(sheet: Page) -> None:
    button = sheet.get_by_role("button", name="change: unsure about this step")
    button.focus()
    sheet.keyboard.press("Enter")
    assert sheet.is_visible(f"{row('unsure')} .keys-field")
    sheet.keyboard.press("q")
    assert caps(sheet, "unsure") == "Q"
    until(sheet, 'JSON.stringify(window.saved) === \'{"unsure":["q"]}\'')
    assert not sheet.is_visible(f"{row('unsure')} .keys-field")
    assert sheet.evaluate("document.activeElement.ariaLabel") == "change: unsure about this step"
    sheet.keyboard.press("Escape")
    sheet.keyboard.press("u")
    sheet.keyboard.press("q")
    assert acts(sheet) == ["unsure"]


def test_a_key_can_be_added(sheet: Page) -> None:
    sheet.click(f"{row('up')} [data-tool=add]")
    sheet.keyboard.press("k")
    assert caps(sheet, "up") == "↑ W K"
    sheet.click(f"{row('up')} [data-tool=add]")
    sheet.keyboard.press("k")
    assert caps(sheet, "up") == "↑ W K"
    sheet.click(f"{row('up')} [data-tool=add]")
    sheet.keyboard.press("i")
    assert sheet.is_disabled(f"{row('up')} [data-tool=add]")  # four are enough


def test_a_conflict_is_named_and_changes_nothing(sheet: Page) -> None:
    sheet.click(f"{row('unsure')} [data-tool=change]")
    sheet.keyboard.press("z")
    assert sheet.inner_text(".keys-status") == (
        "Z already means: take the last act back. Press another key, or Escape."
    )
    assert caps(sheet, "unsure") == "U"
    sheet.keyboard.press("y")  # it is still listening
    assert caps(sheet, "unsure") == "Y"
    assert sheet.inner_text(".keys-status") == ""


def test_keys_that_belong_to_the_browser_are_not_taken(sheet: Page) -> None:
    for key in ["F5", "Control+k", "Home", "Alt+q"]:
        sheet.click(f"{row('unsure')} [data-tool=change]")
        sheet.keyboard.press(key)
        assert "cannot be used" in sheet.inner_text(".keys-status"), key
        sheet.keyboard.press("Escape")
    assert caps(sheet, "unsure") == "U"


def test_escape_and_leaving_the_field_change_nothing(sheet: Page) -> None:
    sheet.click(f"{row('unsure')} [data-tool=change]")
    sheet.keyboard.press("Escape")
    assert sheet.is_visible("#dialog-keys")
    sheet.click(f"{row('unsure')} [data-tool=change]")
    sheet.keyboard.press("Tab")
    assert not sheet.is_visible(f"{row('unsure')} .keys-field")
    assert sheet.evaluate("window.saved") is None


def test_a_key_of_another_alphabet_is_kept_by_its_place(sheet: Page) -> None:
    sheet.click(f"{row('unsure')} [data-tool=change]")
    press(sheet, "й", "KeyQ")
    assert caps(sheet, "unsure") == "Q"


def test_all_keys_go_back_to_the_usual_ones(sheet: Page) -> None:
    sheet.click(f"{row('unsure')} [data-tool=change]")
    sheet.keyboard.press("q")
    sheet.click("[data-reset]")
    assert caps(sheet, "unsure") == "U"
    until(sheet, "JSON.stringify(window.saved) === '{}'")


def test_the_sheet_says_when_keys_could_not_be_saved(sheet: Page) -> None:
    sheet.evaluate("window.offline = true")
    sheet.click(f"{row('unsure')} [data-tool=change]")
    sheet.keyboard.press("q")
    until(sheet, "document.querySelector('.keys-status').textContent.startsWith('Not saved')")
    assert caps(sheet, "unsure") == "Q"
