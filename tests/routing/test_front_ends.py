"""The tools of a chat front end are left out where the user does not ask for what they do."""

import json
from pathlib import Path
from typing import Final

import pytest

from proxy.routing.front_ends import is_built_in, may_leave_out

DATA: Final = Path(__file__).parents[2] / "data"

# Those that a default Open WebUI offers with each chat.
DEFAULT = (
    "get_current_timestamp calculate_timestamp ask_user list_knowledge_bases "
    "search_knowledge_bases query_knowledge_bases grep_knowledge_files search_knowledge_files "
    "query_knowledge_files view_knowledge_file search_chats view_chat search_notes view_note "
    "write_note replace_note_content create_tasks update_task create_automation update_automation "
    "list_automations toggle_automation delete_automation search_calendar_events "
    "create_calendar_event update_calendar_event delete_calendar_event create_skill"
).split()
MEMORY = ["search_memories", "add_memory", "list_memories", "delete_memory"]

NO_TOOL = (
    "What is the capital of France?",
    "2+2?",
    "Hello!",
    "Thanks, that helped a lot.",
    "Write a haiku about autumn.",
    "Translate 'good morning' to Spanish.",
    "Explain the difference between TCP and UDP.",
    "Who wrote Pride and Prejudice?",
    "Fix the grammar: he go to school.",
    "Write a Python function that reverses a string.",
    "Explain binary search with an example.",
    "What is the time complexity of quicksort?",
    "How long does it take to boil an egg?",
    "Summarize: The meadow was green, and the cows were happy.",
    "Which notes make a C major chord?",
    "Explain round-robin scheduling.",
    "How much memory does a float take?",
    "What are the main events of the French Revolution?",
    "Give me three names for a cat.",
    "What does a calculator do with def f(a_b): return a_b?",
    "Tell me a joke.",
    "Capital of France?",
    "Translate to French: where is the station?",
    'Translate this to English: "Wo ist der Bahnhof?"',
    "Suggest three names for a bakery",
    "How long should I boil an egg?",
    "Write a haiku about autumn",
    "Who was S\u00f8ren Kierkegaard?",
    "Add 17 and 25.",
    "Remove the duplicates from this list: 3, 3, 4.",
    "Can dogs eat chocolate?",
    "Thanks!",
    "Hi",
    "Good morning!",
    "Yes",
    "OK, thank you very much",
)
A_TOOL = (
    "What time is it?",
    "What is the date?",
    "What day is it today?",
    "How many days until Christmas?",
    "How long ago was the moon landing?",
    "How old is the president?",
    "What's on my calendar?",
    "Do I have anything on Friday?",
    "Am I free tomorrow afternoon?",
    "Create a meeting with Bob for 10 o'clock.",
    "Remind me to call Anna.",
    "Search my notes for the recipe.",
    "Write a note about this.",
    "Save this for me, please.",
    "What did we discuss in our last conversation?",
    "What have I asked you about Rust last week?",
    "Search the web for the new iPhone.",
    "Look up the opening hours of the museum.",
    "What's the weather like in Paris?",
    "What is the latest version of Python?",
    "Any news about the election?",
    "What does our refund policy say?",
    "What does the document say about holidays?",
    "Search the knowledge base for VPN.",
    "Send me a daily report of the sales.",
    "Check the site every morning.",
    "Make a to-do list for the move.",
    "Use your tools to answer this.",
    "Call view_chat for the last one.",
    "Read https://example.org and explain it to me.",
    "Wie spät ist es?",
    "¿Qué hora es?",
    "今天星期几？",
    "Quel temps fait-il ?",
    # personal: only the user's own data has the answer, or the tool does what is asked
    "add milk to my shopping list note",
    "Put this in notes",
    "Save to notes",
    "Book lunch with Ann at noon on Friday please",
    "Put dentist on Tuesday at 3pm for me",
    "Cancel the dentist",
    "Could you please cancel the plumber?",
    "Move lunch to 1pm",
    "Mark the second task as done, please",
    "Where did I park my car? Tell me.",
    "I parked on level 3.",
    "What is my phone number?",
    "When does our lease end?",
    "Add eggs to the groceries list.",
    "Postpone the dentist",
    "Tuesday 3pm haircut",
    "Pencil in coffee with Bob",
    "Can you schedule gym?",
    "Keep this for later",
    "Which tasks are open? Are any tasks left?",
    "Anything planned?",
    "What did Anna say about the budget?",
    "What is the vacation policy?",
    "Who is on-call?",
    "What is the wifi password?",
    "Is it raining in Paris? Tell me",
    # a greeting, or a word that is English too, in a text that is not English
    "Hi! Wie spaet ist es gerade in Tokio?",
    "Hello, wie ist das Wetter in Paris?",
    "What's up? Was steht heute an?",
    "Thanks! Zeig mir bitte meine Termine",
    "Explain the rules of chess, and who made them. Wie spaet ist es?",
    "Tell me the Uhrzeit in Berlin bitte jetzt",
    "Co to jest w moim kalendarzu?",
    "Hvad er klokken for tiden?",
    "Vad har jag att g\u00f6ra p\u00e5 fredag?",
    "Hi, wat staat er op mijn agenda?",
    "Hoe laat is het of wat is de tijd?",
    "Ce este in calendarul meu?",
    "Hi! Quelle heure est-il?",
    "Quel est le programme de la semaine?",
    "Hello, que hora es en Madrid?",
    "Ok, che ora sono a Roma?",
    "Hi, que horas sao agora?",
    "Kolik je hodin?",
    "Mennyi az ido?",
    "Paljonko kello on?",
    "Saat kac?",
    "Jam berapa sekarang?",
    "Hi! \u0421\u043a\u043e\u043b\u044c\u043a\u043e \u0432\u0440\u0435\u043c\u0435\u043d\u0438?",
)
FOR_MEMORY = (
    "Remember that I like tea.",
    "What's my name?",
    "What do you know about me?",
    "From now on, answer in short sentences, please.",
    "Forget what I said about my diet.",
)


# The user's first message, the assistant's answer, and the user's short reply.
A_REPLY_FOR_A_TOOL = (
    (
        "I see the dentist at four.",
        "I can add 'Dentist' to your calendar. Shall I?",
        "Yes, please do that.",
    ),
    ("Milk and eggs.", "Would you like me to write a note with these?", "Sure"),
    ("Milk and eggs.", "Shall I keep it in your notes?", "Yes"),
    ("What's on my calendar?", "You have one meeting.", "And with whom?"),
    ("Wie heisst die Hauptstadt von Frankreich?", "Paris.", "ok"),
    ("Name a bakery.", "Der Name der Baeckerei ist Korn.", "ok"),
)
A_REPLY_FOR_NO_TOOL = (
    ("What is the capital of France?", "The capital of France is Paris.", "Thanks!"),
    ("Write a haiku about autumn", "Leaves fall from the tree.", "Another one, please"),
    ("What is the capital of France?", "It is Paris. Do you want to know more?", "Yes"),
)


def user(text: str) -> list[tuple[str, str]]:
    return [("system", "Answer what time it is."), ("user", text)]


def conversation(*texts: str) -> list[tuple[str, str]]:
    return list(zip(("user", "assistant") * len(texts), texts, strict=False))


def test_built_in_tools_are_known_by_their_names() -> None:
    assert is_built_in(DEFAULT)
    assert is_built_in(DEFAULT[:1])
    assert not is_built_in([*DEFAULT, "get_weather"])
    assert not is_built_in(["search_web", *DEFAULT])  # the user has switched it on
    assert not is_built_in(["shell", "apply_patch", "update_plan"])
    assert not is_built_in([])


@pytest.mark.parametrize("message", NO_TOOL)
def test_a_message_that_wants_no_tool(message: str) -> None:
    assert may_leave_out([*DEFAULT, *MEMORY], user(message))


@pytest.mark.parametrize("message", A_TOOL)
def test_a_message_that_wants_a_tool(message: str) -> None:
    assert not may_leave_out(DEFAULT, user(message))


@pytest.mark.parametrize("message", FOR_MEMORY)
def test_a_message_that_wants_the_memory(message: str) -> None:
    assert not may_leave_out([*DEFAULT, *MEMORY], user(message))


@pytest.mark.parametrize("texts", A_REPLY_FOR_A_TOOL)
def test_a_short_reply_to_what_wants_a_tool(texts: tuple[str, ...]) -> None:
    assert not may_leave_out(DEFAULT, conversation(*texts))


@pytest.mark.parametrize("texts", A_REPLY_FOR_NO_TOOL)
def test_a_short_reply_to_what_wants_no_tool(texts: tuple[str, ...]) -> None:
    assert may_leave_out(DEFAULT, conversation(*texts))


def test_a_long_message_is_read_alone() -> None:
    question = "Explain in some detail how a combustion engine turns fuel into motion, please."
    texts = ("What's on my calendar?", "You have one meeting.", question + " Use short words.")
    assert may_leave_out(DEFAULT, conversation(*texts))


def test_older_turns_are_not_read() -> None:
    texts = ("What's on my calendar?", "Nothing.", "Tell me a joke.", "Knock knock.", "Who is it?")
    assert may_leave_out(DEFAULT, conversation(*texts))


@pytest.mark.parametrize(("name", "most"), [("everyday", 0.12), ("graded", 0.15)])
def test_most_prompts_need_no_tool(name: str, most: float) -> None:
    lines = (DATA / f"{name}.jsonl").read_text().splitlines()
    prompts = [json.loads(line)["query"] for line in lines]
    share = sum(not may_leave_out(DEFAULT, user(prompt)) for prompt in prompts) / len(prompts)
    print(f"{name}: {share:.1%} of {len(prompts)} prompts keep their tools")
    assert 0.02 < share <= most


def test_a_message_for_a_tool_that_is_not_offered() -> None:
    assert may_leave_out(["ask_user"], user("Remember that I like tea, and write a note."))


def test_a_long_message_is_read_at_its_edges() -> None:
    text = "The sun is a star. " * 100_000
    assert may_leave_out(DEFAULT, user(text))
    assert not may_leave_out(DEFAULT, user(text + "Save this in my notes."))
    assert not may_leave_out(DEFAULT, user("What time is it? " + text))
