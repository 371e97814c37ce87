"""The routing text of conversations: the task, without what is put around it."""

import json
from pathlib import Path

import pytest

from router_model import task
from router_model.features import clip
from router_model.task import ScoreSystem, is_small_talk, routing_text

DATA = Path(__file__).parents[2] / "data"
LONG_QUESTION = "Explain how a heat pump moves heat from a cold place to a warm one. " * 3

Turns = list[tuple[str, str]]


def user(text: str) -> tuple[str, str]:
    return ("user", text)


def assistant(text: str) -> tuple[str, str]:
    return ("assistant", text)


def tool(text: str) -> tuple[str, str]:
    return ("tool", text)


HARD = (
    "Prove that every finite division ring is commutative, and say where finiteness is needed; "
    "then find an infinite division ring that is not."
)
RULES = "You MUST return whole files.\n" + "Each file begins with its name in a line.\n" * 5
QUESTION = "Which river flows through Vienna?"
PREAMBLE = (
    "We are setting up the context for our chat.\nToday is Tuesday.\nMy folder is /home/kim/garden."
    "\n\n/home/kim/garden/\n├── beds.csv\n└── plants.py"
)
STORY = (
    "The lighthouse was built in the year of the great flood. Its keeper wrote a letter each "
    "evening, and nobody ever answered. When the last ship left the harbour, the keeper put all "
    "the letters into a barrel and rolled it into the sea. Years later a child found the barrel on "
    "another shore. The child could not read yet, so the letters stayed closed for another decade, "
    "until they were read aloud at a wedding in the village, to everybody's amusement."
)
LOG = "\n".join(
    f"10:{i % 60:02d}:07 [db-{i % 4}] 0x{i * 7919:08x} commit={i} ms={i % 13}" for i in range(300)
)
CODE = "```python\n" + "\n".join(f"x_{i} = f({i}) + g[{i}]" for i in range(80)) + "\n```"
TOOLS = (
    "Answer the question as best you can. You have these tools:\n\nsearch: finds pages\n\nUse this "
    "format:\n\nQuestion: the question that you must answer\nThought: what to do\nAction: search\n"
    "Observation: the result\nFinal Answer: the answer\n\nBegin!\n\nQuestion: "
)
CHATTER = [
    turn
    for i in range(14)
    for turn in (
        user(f"We also walked the dog {i} times around the pond, which was pleasant."),
        assistant("Nice!"),
    )
]
MATERIAL = STORY[: task.MATERIAL_CHARS] + "…"

# What is scored for a conversation.
CASES: dict[str, tuple[Turns, str]] = {
    # Frames of frameworks.
    "a task between a crew's words": (
        [
            user(
                f"\nCurrent Task: {QUESTION}\n\nThis is the expected criteria for your final "
                "answer: A short answer\nyou MUST return the actual complete content as the final "
                "answer, not a summary.\n\nProvide your complete response:"
            )
        ],
        QUESTION,
    ),
    "a reminder of the instructions": (
        [
            ("system", f"Act as an expert.\n\n{RULES}\n"),
            user("Change the greeting."),
            assistant("Ok."),
            user(f"{QUESTION}\n\n{RULES}\n\n"),
        ],
        f"Change the greeting.\n{QUESTION}",
    ),
    "a question that ends as the instructions do": (
        [("system", f"Be kind. {QUESTION}"), user(f"Tell me: {QUESTION}")],
        f"Tell me: {QUESTION}",
    ),
    "a line of which only the end is repeated": (
        [("system", f"Be kind. {LONG_QUESTION}"), user(f"Tell me: {LONG_QUESTION}")],
        f"Tell me: {LONG_QUESTION}".strip(),
    ),
    "a question between marked fields": (
        [
            user(
                f"[[ ## question ## ]]\n{QUESTION}\n\n"
                "Respond with the corresponding output fields, "
                "starting with the field `[[ ## answer ## ]]`, and then ending with the marker."
            )
        ],
        QUESTION,
    ),
    "fields of which one is context": (
        [
            user(
                f"[[ ## question ## ]]\n{QUESTION}\n\n[[ ## context ## ]]\n{STORY}\n\n"
                "Respond with a JSON object in the following order of fields: `answer`."
            )
        ],
        f"{MATERIAL}\n{QUESTION}",
    ),
    "a marker without a value": ([user("[[ ## question ## ]]")], "[[ ## question ## ]]"),
    # Clients' context.
    "a context turn before the task": (
        [user("<environment_context>\n  <cwd>/srv</cwd>\n</environment_context>"), user(QUESTION)],
        QUESTION,
    ),
    "context in front of the task": (
        [user(f"<system-reminder>\nUse tabs.\n</system-reminder>\n{QUESTION}")],
        QUESTION,
    ),
    "context behind the task": (
        [user(f"{QUESTION}\n<ide_state>\nopen: a.py\n</ide_state>")],
        QUESTION,
    ),
    "context around the task": (
        [user(f"<context>\nA\n</context>\n{QUESTION}\n<open-files>\nb\n</open-files>")],
        QUESTION,
    ),
    "titled instructions of a client": (
        [
            user("# Instructions for /srv\n\n<INSTRUCTIONS>\nUse tabs.\n</INSTRUCTIONS>"),
            user(QUESTION),
        ],
        QUESTION,
    ),
    "nothing but context": (
        [user("<context>\nThe meeting is at noon.\n</context>")],
        "<context>\nThe meeting is at noon.\n</context>",
    ),
    "a task in tags": (
        [user(f"<task>\n{QUESTION}\n</task>\n<environment_details>\nx\n</environment_details>")],
        QUESTION,
    ),
    "tags inside a task": (
        [user(f"{HARD}\n<request>\nping\n</request>\nis what the client sends.")],
        f"{HARD}\n<request>\nping\n</request>\nis what the client sends.",
    ),
    "a prompt that is to be rewritten": (
        [user("Rewrite this prompt so that it uses our tools:\n<task>\nSay hi\n</task>")],
        "Rewrite this prompt so that it uses our tools:\n<task>\nSay hi\n</task>",
    ),
    "a task and its requirements in tags": (
        [user(f"<task>Say hi</task>\n<requirements>{HARD}</requirements>")],
        f"<task>Say hi</task>\n<requirements>{HARD}</requirements>",
    ),
    "context, and tags inside a task": (
        [user(f"<context>\nA\n</context>\n{HARD}\n<query>\nping\n</query>\nis sent.")],
        f"{HARD}\n<query>\nping\n</query>\nis sent.",
    ),
    "spaces around a task": ([user(" " * 6_000 + HARD + "\n" * 6_000)], HARD),
    "context that is not closed": ([user(f"<context>\n{QUESTION}")], f"<context>\n{QUESTION}"),
    "pasted HTML, then the question": (
        [user("<div>\n  <p>Hello</p>\n</div>\n\nWhy is this not centred?")],
        "<div>\n  <p>Hello</p>\n</div>\n\nWhy is this not centred?",
    ),
    "the question, then pasted XML": (
        [user("Is this valid?\n<order><item n='1'/></order>")],
        "Is this valid?\n<order><item n='1'/></order>",
    ),
    "a comparison is no tag": ([user("Is a<b>c true in Python?")], "Is a<b>c true in Python?"),
    # Canned turns.
    "a preamble with a canned answer": (
        [user(PREAMBLE), assistant("Got it. Thanks for the context!"), user(QUESTION)],
        QUESTION,
    ),
    "a preamble, and a follow-up in the same chat": (
        [
            user(PREAMBLE),
            assistant("Understood."),
            user(QUESTION),
            assistant("The Danube."),
            user("How long is it?"),
        ],
        f"{QUESTION}\nHow long is it?",
    ),
    "canned examples that are called off": (
        [
            user("Change the factorial to use the library."),
            assistant("Here is the edit: …"),
            user("This is a new code base. Please don't consider the above files."),
            assistant("Ok."),
            user("These are the files that I added to the chat: cart.py"),
            assistant("Ok, I will edit only those."),
            user("Rename the class Cart."),
        ],
        "Rename the class Cart.",
    ),
    "an acknowledged task": (
        [user(HARD), assistant("Understood."), user("do it")],
        f"{HARD}\ndo it",
    ),
    "a preamble that the last turn needs": (
        [user(PREAMBLE), assistant("Ok."), user("go on")],
        f"{PREAMBLE}\ngo on",
    ),
    # Frames.
    "retrieved context and a labelled question": (
        [
            user(
                "Use the following context to answer the question.\n\n"
                f"Context:\n{STORY}\n\nQuestion: Who found the barrel?\nAnswer:"
            )
        ],
        f"{MATERIAL}\nWho found the barrel?",
    ),
    "retrieved context without a label": (
        [user(f"Answer from these documents only.\n\n{STORY}\n\nQuery: Who found the barrel?")],
        f"{MATERIAL}\nWho found the barrel?",
    ),
    "a question before the retrieved context": (
        [user(f"Question: Who found the barrel?\n\nContext: {STORY}\nAnswer:")],
        f"{MATERIAL}\nWho found the barrel?",
    ),
    "retrieved context in tags": (
        [
            user(
                "### Task:\nRespond to the user using the provided context, with citations.\n\n"
                "### Guidelines:\n- Cite the sources of each statement by their number.\n"
                f"- If unsure, say so.\n\n<context>\n{STORY}\n</context>\n\n"
                "Who found the barrel?"
            )
        ],
        f"{MATERIAL}\nWho found the barrel?",
    ),
    "a bare labelled question": (
        [user("Question: Who was Ada?\nAnswer:")],
        "Question: Who was Ada?\nAnswer:",
    ),
    "an agent's frame": ([user(f"{TOOLS}{QUESTION}\nThought:")], QUESTION),
    # Pasted material.
    "a log with the question after it": (
        [user(f"{LOG}\n\nWhich worker is slow?")],
        f"{LOG[: task.MATERIAL_CHARS]}…\nWhich worker is slow?",
    ),
    "a log with the question before it": (
        [user(f"Which worker is slow?\n\n{LOG}")],
        f"Which worker is slow?\n{LOG[: task.MATERIAL_CHARS]}…",
    ),
    "code between a question's lines": (
        [user(f"What does this do?\n\n{CODE}\n\nAnswer in a line.")],
        f"What does this do?\n\n{CODE[: task.MATERIAL_CHARS]}…\n\nAnswer in a line.",
    ),
    "an instruction and a pasted text": (
        [user(f"Shorten this:\n\n{STORY}")],
        f"Shorten this:\n{MATERIAL}",
    ),
    "a long document and a question": (
        [user(f"{STORY}\n\n" * 8 + "Who found the barrel?")],
        f"{MATERIAL}\nWho found the barrel?",
    ),
    # Agents.
    "a tool's result": (
        [user(QUESTION), assistant(""), tool("Danube")],
        f"{QUESTION}\nTool result: short text.",
    ),
    "many tools' results": (
        [user(QUESTION), *[assistant(""), tool("[1, 2]" * 200), tool("Error: no such file")] * 12],
        f"{QUESTION}\nMany rounds. Tool result: short error.",
    ),
    "an observation as a user turn": (
        [
            user(f"{TOOLS}{QUESTION}"),
            assistant("Action: search"),
            user("Observation: " + STORY * 2),
        ],
        f"{QUESTION}\nTool result: long text.",
    ),
    "a command's output as a user turn": (
        [user(HARD), assistant("```sh\nls\n```"), user("Output:\na.py")],
        f"{HARD}\nTool result: short text.",
    ),
    "a complaint about a command's output": (
        [user(HARD), assistant("```sh\nls\n```"), user("Output: is wrong. Rewrite it all.")],
        f"{HARD}\nOutput: is wrong. Rewrite it all.",
    ),
    "a person's observations on code": (
        [
            user(HARD),
            assistant("```py\nprint()\n```"),
            user("Observations: it is slow. Redesign it."),
        ],
        f"{HARD}\nObservations: it is slow. Redesign it.",
    ),
    "an observation that a person adds": (
        [user(QUESTION), assistant("The Danube."), user("Observations: it also flows elsewhere.")],
        f"{QUESTION}\nObservations: it also flows elsewhere.",
    ),
    "an observation that a person asks about": (
        [user("Observation: swallows fly low. Why?")],
        "Observation: swallows fly low. Why?",
    ),
    # Follow-ups and small talk.
    "a hard task before chatter": (
        [user(HARD), assistant("Shall I?"), *CHATTER, user("ok do it")],
        "\n".join([HARD, *(CHATTER[2 * i][1] for i in (11, 12, 13)), "ok do it"]),
    ),
    "thanks": (
        [user(HARD), assistant("Proof: …"), user("Thank you so much!")],
        "Thank you so much!",
    ),
    "ok": ([user(HARD), assistant("Proof: …"), user("ok")], "ok"),
    "ok to an offer": ([user(HARD), assistant("Shall I begin?"), user("ok")], f"{HARD}\nok"),
    "thanks to an offer": ([user(HARD), assistant("Anything else?"), user("thanks")], "thanks"),
    "thanks and a task": (
        [user(HARD), assistant("Proof: …"), user("Thanks! And for rings with zero divisors?")],
        f"{HARD}\nThanks! And for rings with zero divisors?",
    ),
    "continue": ([user(HARD), assistant("First, …"), user("continue")], f"{HARD}\ncontinue"),
    "continue twice": (
        [user(HARD), assistant("1"), user("continue"), assistant("2"), user("go on, please")],
        f"{HARD}\ngo on, please",
    ),
    "thanks between": (
        [
            user(HARD),
            assistant("1"),
            user("great, thanks"),
            assistant("Sure."),
            user("and in a line?"),
        ],
        f"{HARD}\nand in a line?",
    ),
    "a hard task in another language": (
        [user(HARD), assistant("…"), user("weiter")],
        f"{HARD}\nweiter",
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_task_is_scored(name: str) -> None:
    turns, expected = CASES[name]
    assert routing_text(turns) == expected
    assert routing_text([("system", "You are terse. " * 50), *turns]) == expected


def bare_prompts() -> list[str]:
    prompts = []
    for name in ("sample", "questions", "checks", "everyday"):
        for line in (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            prompts += [row[key] for key in ("query", "prompt", "text") if key in row]
            prompts += row.get("turns", [])[:1]
    return [text for text in prompts if text.count("\n\n") < 3]  # no pasted text


def test_bare_prompts_are_scored_as_they_are() -> None:
    prompts = bare_prompts()
    assert len(prompts) > 300
    changed = [text for text in prompts if routing_text([user(text)]) != clip(text.strip())]
    assert changed == []


SYSTEM = "Prove the theorem that the user has chosen, with all details."
GO = ["go", "yes", "Start!", "begin", ".", "…", "?"]


@pytest.mark.parametrize("text", GO)
def test_system_prompt_is_scored_if_the_user_has_no_content(text: str) -> None:
    for role in ("system", "developer"):
        assert routing_text([(role, SYSTEM), user(text)]) == f"{SYSTEM}\n{text}"
    assert routing_text([("system", SYSTEM), user(text)], score_system="never") == text
    assert routing_text([user(text)]) == text


@pytest.mark.parametrize("text", ["Hi", "thanks", QUESTION, "7", "42?", "什么是素数？", "👍"])
def test_system_prompt_is_not_scored_with_content(text: str) -> None:
    assert routing_text([("system", SYSTEM), user(text)]) == text


@pytest.mark.parametrize(
    ("score_system", "expected"), [("auto", SYSTEM), ("always", SYSTEM), ("never", "")]
)
def test_system_prompt_without_user(score_system: ScoreSystem, expected: str) -> None:
    assert routing_text([("system", SYSTEM)], score_system=score_system) == expected
    assert routing_text([("system", SYSTEM), user(" ")], score_system=score_system) == expected


def test_system_prompt_can_always_be_scored() -> None:
    turns = [("system", SYSTEM), user(QUESTION)]
    assert routing_text(turns, score_system="always") == f"{SYSTEM}\n{QUESTION}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("thanks", True),
        ("Perfect, that helped!", True),
        ("ok", True),
        ("ok go", False),
        ("7", False),
    ],
)
def test_small_talk(text: str, expected: bool) -> None:
    assert is_small_talk([user(HARD), assistant("Done."), user(text)]) is expected
    assert not is_small_talk([user(text), assistant(""), tool("x")])
    assert not is_small_talk([])


def test_last_user_message_is_the_task() -> None:
    messages = [
        user("An earlier and unrelated question about sourdough bread."),
        assistant("Some answer."),
        user(LONG_QUESTION),
    ]
    assert routing_text(messages) == LONG_QUESTION.strip()


def test_system_prompt_is_ignored() -> None:
    bare = [user("What is 2+2?")]
    assert routing_text([("system", "You are a pirate. " * 500), *bare]) == routing_text(bare)
    assert routing_text([("developer", "Be terse."), *bare]) == "What is 2+2?"


def test_short_follow_up_includes_earlier_user_turns() -> None:
    text = routing_text(
        [
            user("Write a lock-free queue in C++."),
            assistant("assistant words"),
            tool("tool words"),
            user("and in Rust?"),
        ]
    )
    assert text == "Write a lock-free queue in C++.\nand in Rust?"


def test_earlier_turns_are_limited_to_the_newest() -> None:
    turns = [user(f"turn {i} " + "x" * 200) for i in range(50)]
    text = routing_text([*turns, user("why?")])
    assert "turn 49" in text
    assert "turn 10 " not in text
    assert text.endswith("why?")
    assert len(text) < task.EARLIER_TURNS_CHARS + task.SHORT_FOLLOW_UP_CHARS + 50


def test_long_earlier_turn_keeps_its_start() -> None:
    text = routing_text([user("Prove the lemma. " + "y" * 9000), user("shorter please")])
    assert text.startswith("Prove the lemma.")
    assert text.endswith("shorter please")


@pytest.mark.parametrize("messages", [[], [("user", "  \n")], [("assistant", "hi")]])
def test_conversation_without_text_is_empty(messages: Turns) -> None:
    assert routing_text(messages) == ""


def test_blank_last_turn_is_skipped() -> None:
    assert routing_text([user(LONG_QUESTION), user(" ")]) == LONG_QUESTION.strip()


@pytest.mark.parametrize(
    "part",
    [
        "<context>",
        "<a_file>\n",
        "Question: ",
        "```",
        "#\n",
        " \n",
        "Observation: ",
        "Context:\n\n",
        "go ",
        "…",
    ],
)
@pytest.mark.parametrize("size", [10, 500_000])
def test_text_is_bounded(part: str, size: int) -> None:
    text = part * (size // len(part))
    turns = [user(text), assistant(text), tool(text)] * 3
    for index in range(len(turns) + 1):
        for score_system in ("auto", "always"):
            scored = routing_text([("system", text), *turns[:index]], score_system=score_system)
            assert len(scored) <= 2_400


@pytest.mark.parametrize(
    "turns",
    [
        [user(QUESTION)],
        [("system", STORY), user(STORY), assistant(STORY), user(QUESTION)],
        [("developer", RULES), user(f"{QUESTION}\n\n{RULES}")],
        [user(f"<system-reminder>\n{STORY}\n</system-reminder>{QUESTION}")],
        [("tool", QUESTION)],
        [user(QUESTION), assistant(STORY)],
    ],
)
def test_what_is_new_in_a_request(turns: Turns) -> None:
    assert task.new_chars(turns) == len(QUESTION)


def test_all_of_a_long_text_is_new() -> None:
    turns: Turns = [user(f"<context>\n{QUESTION}\n</context>"), user("a" * 100_000)]
    assert task.new_chars(turns) == 100_000
    assert task.new_chars([]) == 0


@pytest.mark.parametrize("text", ["", " ", "a", " a", "a ", "\u00a0a b\n\t", "x" * 20_000])
@pytest.mark.parametrize("space", ["", " \n", " " * 4096, "\t" * 9_000])
def test_the_window_of_a_text_leaves_out_the_white_space_around_it(text: str, space: str) -> None:
    padded = space + text + space
    assert task._window(padded) == task._window(padded.strip())
    start, end = task._stripped_span(padded)
    assert padded[start:end] == padded.strip()
