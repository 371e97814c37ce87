"""The tools of a chat front end are left out where the user does not ask for what they do."""

import pytest

from proxy.routing.front_ends import is_built_in, may_leave_out

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
)
FOR_MEMORY = (
    "Remember that I like tea.",
    "What's my name?",
    "What do you know about me?",
    "From now on, answer in short sentences, please.",
    "Forget what I said about my diet.",
)


def test_built_in_tools_are_known_by_their_names() -> None:
    assert is_built_in(DEFAULT)
    assert is_built_in(DEFAULT[:1])
    assert not is_built_in([*DEFAULT, "get_weather"])
    assert not is_built_in(["search_web", *DEFAULT])  # the user has switched it on
    assert not is_built_in(["shell", "apply_patch", "update_plan"])
    assert not is_built_in([])


@pytest.mark.parametrize("message", NO_TOOL)
def test_a_message_that_wants_no_tool(message: str) -> None:
    assert may_leave_out([*DEFAULT, *MEMORY], message)


@pytest.mark.parametrize("message", A_TOOL)
def test_a_message_that_wants_a_tool(message: str) -> None:
    assert not may_leave_out(DEFAULT, message)


@pytest.mark.parametrize("message", FOR_MEMORY)
def test_a_message_that_wants_the_memory(message: str) -> None:
    assert not may_leave_out([*DEFAULT, *MEMORY], message)


def test_a_message_for_a_tool_that_is_not_offered() -> None:
    assert may_leave_out(["ask_user"], "Remember that I like tea, and write a note.")


def test_a_long_message_is_read_at_its_edges() -> None:
    text = "The sun is a star. " * 100_000
    assert may_leave_out(DEFAULT, text)
    assert not may_leave_out(DEFAULT, text + "Save this in my notes.")
    assert not may_leave_out(DEFAULT, "What time is it? " + text)
