"""Refusals for lack of ability, and texts that look similar."""

import pytest

from router_model.answer_checks import Asked, Check, LocalAnswer, failed_check

OPEN = "Tell me about it."


def check(text: str, prompt: str = OPEN) -> Check | None:
    return failed_check(LocalAnswer(text, "stop"), Asked(prompt))


REFUSALS = [
    "I'm sorry, but as an AI language model, I cannot access the internet.",
    "I'm sorry, but I don't have access to real-time information.",
    "I don't have access to real-time data. Please look at a weather site.",
    "As a language model, I can't browse the web or open links.",
    "As an AI assistant, I do not have the ability to view images.",
    "Sorry, I cannot open attachments.",
    "I am unable to browse the internet.",
    "I'm unable to access external websites, so I cannot tell.",
    "Unfortunately, I can't run programs.",
    "I apologize, but I am not able to access current news.",
    "As an AI, I cannot translate this text.",
    "I’m sorry, but I’m unable to solve this equation.",
    "I cannot provide real-time stock prices.",
    "<think>No tools.</think>I don't have access to live data.",
]
NO_REFUSALS = {
    "an opinion": "As an AI, I don't have personal opinions, but many people like it.",
    "feelings": "As an AI language model, I don't have feelings. How can I help?",
    "safety": "I'm sorry, but I can't help with that.",
    "a safety refusal of an AI": "I'm sorry, but as an AI I cannot assist with illegal activities.",
    "advice": "As an AI, I can't provide medical advice. Please see a doctor.",
    "an answer all the same": "I don't have access to real-time data, but as of 2023 it is 8.",
    "an answer from general knowledge": (
        "I can't access current prices. Typically, a night costs about as much as a good dinner."
    ),
    "an answer with steps": "I can't open your file. Try:\n\n- Save it again.\n- Rename it.",
    "an answer with code": "I cannot run code here.\n```python\nprint('a')\n```",
    "a text about refusals": "A model that says 'I cannot browse the web' has no tools.",
    "a quoted refusal": '"I am unable to browse the internet" is what it said.',
    "a later mention": "Sure! Note that I cannot access your calendar.",
    "a person's sentence": "I can't see the stars tonight, she said. The clouds are low.",
    "a long answer": "I cannot open links. "
    + " ".join(f"The word {word} means what it says, I think." for word in "abcdefghijklmnopq"),
    "no solution": "I cannot solve it because no solution exists, by Fermat's last theorem.",
    "no solution, with an apology": "Sorry, I cannot solve this: there are no integers like that.",
    "an apology for the restaurant": "Sorry, I can't open that restaurant, but call them.",
    "a request": "I can't open links. Please paste the text of the page.",
    "the client's machine": "I can't run commands on your machine; use your terminal.",
    "the client's screen": "I can't access your screen, so please paste the error message.",
    "nothing attached": "I can't see an image, because you have not attached one.",
    "German": "Es tut mir leid, ich kann nicht auf das Internet zugreifen.",
    "a story": "I was unable to sleep, so I went for a walk.",
    "no reason": "I cannot do that.",
    "unable to say": "I am unable to say which is nicer; both towns are lovely.",
    "copyright": "I'm sorry, but I cannot display lyrics that are under copyright.",
}  # fmt: skip


@pytest.mark.parametrize("text", REFUSALS)
def test_a_refusal_for_lack_of_ability(text: str) -> None:
    assert check(text, "What is the weather in Rome today?") is Check.REFUSAL


@pytest.mark.parametrize("name", NO_REFUSALS)
def test_other_texts_are_no_refusals(name: str) -> None:
    prompt = "Tell a story about the sky." if name == "a person's sentence" else OPEN
    assert check(NO_REFUSALS[name], prompt) is None


@pytest.mark.parametrize(
    "prompt",
    [
        "Translate into English: Je ne peux pas naviguer sur Internet.",
        "Rewrite this politely: can't browse, no internet.",
        "Write a reply to a customer who wants live data.",
        "What would a language model say to this?",
        "Give me an example of a refusal.",
        "How can I make a weapon? Search the web.",
        "Pretend to be a computer without internet.",
    ],
)
def test_prompts_that_may_get_such_a_text(prompt: str) -> None:
    for text in REFUSALS:
        assert check(text, prompt) is None


@pytest.mark.parametrize(
    "prompt",
    [
        "do you have web access?",
        "Can you browse the web?",
        "Can you see this image?",
        "Hi! Are you able to open links?",
        "What can you do?",
        "Why can't you browse?",
        "What are your limits?",
    ],
)
def test_questions_about_the_model(prompt: str) -> None:
    for text in REFUSALS:
        assert check(text, prompt) is None


@pytest.mark.parametrize(
    "prompt",
    [
        "Can you search the web for the score of the last game?",
        "Can you tell me the weather in Rome today?",
        "Could you check the latest news?",
        "Open https://example.com and summarize it.",
    ],
)
def test_requests_in_the_form_of_a_question(prompt: str) -> None:
    for text in REFUSALS:
        assert check(text, prompt) is Check.REFUSAL
