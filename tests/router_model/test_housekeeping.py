"""Housekeeping requests of chat front ends are recognised; tasks are not mistaken for them."""

import pytest

from router_model.housekeeping import is_housekeeping

HISTORY = "<chat_history>\nUSER: How do I prune roses?\nASSISTANT: In spring.\n</chat_history>"
TRANSCRIPT = "User: How do I prune roses?\nAssistant: In spring."
CHAT = [("user", "How do I prune roses?"), ("assistant", "In spring, above a bud.")]

HOUSEKEEPING = {
    "title": [
        (
            "user",
            "### Task:\nGenerate a concise, 3-5 word title with an emoji for the chat history.\n"
            '### Output:\nJSON format: { "title": "…" }\n### Chat History:\n' + HISTORY,
        )
    ],
    "tags": [
        (
            "user",
            "### Task:\nGenerate 1-3 broad tags categorizing the main themes of the chat, with "
            '1-3 subtopics.\n### Output:\nJSON: { "tags": [] }\n### Chat History:\n' + HISTORY,
        )
    ],
    "follow-ups": [
        (
            "user",
            "### Task:\nSuggest 3-5 relevant follow-up questions that the user might ask next.\n"
            '### Output:\n{ "follow_ups": [] }\n### Chat History:\n' + HISTORY,
        )
    ],
    "messages that may follow": [
        (
            "user",
            "### Task:\nPredict 2-4 short messages the user may want to send next.\n"
            "### Guidelines:\n- Do not repeat answers.\n### Output:\n"
            'JSON format: { "follow_ups": [] }\n'
            "### Chat History:\n" + HISTORY,
        )
    ],
    "a prompt for a picture": [
        (
            "user",
            "### Task:\nGenerate a vivid prompt for an image generation task, by the context.\n"
            '### Output:\nStrictly return JSON: { "prompt": "…" }\n### Chat History:\n' + HISTORY,
        )
    ],
    "a prompt for a picture, misspelled": [
        (
            "user",
            "### Task:\nGenerate a long prompt for am image generation task.\n### Chat History:\n"
            + HISTORY,
        )
    ],
    "an emoji": [
        (
            "user",
            "Your task is to reflect the speaker's probable mood through a suitable emoji. "
            "Interpret emotions from the message (e.g., 😊).\n\nMessage: ```The roses bloom!```",
        )
    ],
    "search query": [
        (
            "user",
            "### Task:\nAnalyze the chat history to determine whether a search is necessary.\n"
            '### Output:\n{ "queries": [] }\n### Chat History:\n' + HISTORY,
        )
    ],
    "autocompletion": [
        (
            "user",
            "### Task:\nYou are an autocompletion system. Continue the text in `<text>`.\n"
            f"### Context:\n{HISTORY}\n<text>How do I</text>\n#### Output:",
        )
    ],
    "title after the chat": [
        *CHAT,
        (
            "user",
            "Please generate a four word title for our conversation without any punctuation.",
        ),
    ],
    "title of a transcript": [
        (
            "user",
            "Provide a short title for the conversation, in title case. Only return the title.\n\n"
            "Conversation:\n" + TRANSCRIPT,
        )
    ],
    "a title generator's system prompt": [
        ("system", "You are a title generator. Output only a title for the conversation."),
        ("user", "How do I prune roses?"),
    ],
    "summary of the chat": [
        *CHAT,
        ("user", "Summarize the conversation in 200 words or less, to use as a prompt later."),
    ],
    "title of an unlabelled transcript": [
        ("user", "Generate a short title for this conversation:\n\nHow do I prune roses?")
    ],
    "title of the first message": [
        (
            "user",
            "From this message, create a short title for the conversation. Reply with only the "
            "title.\n\nHow do I prune roses?",
        )
    ],
    "a summarizer's system prompt": [
        (
            "system",
            "You are a conversation summarizer. Generate a short title that captures the "
            "conversation.\n\nRules:\n- Output ONLY the title text",
        ),
        ("user", "assistant: hi\nuser: hello"),
    ],
    "a titling assistant with a goal": [
        (
            "system",
            "You are a chat titling assistant. Goal: Produce a short title that names the topic of "
            "the user's first message. Output ONLY the title.",
        ),
        ("user", "Summarize: hi"),
    ],
    "a topic check": [
        (
            "system",
            "Analyze if this message indicates a new conversation topic. If so, extract a title. "
            "Answer with a JSON object, no other text.",
        ),
        ("user", "hi"),
    ],
    "language and title": [
        (
            "user",
            "Analyze this conversation and provide:\n1. Its language\n2. A concise title (5 words "
            "or less, no punctuation)\n\nUser: hi\nAI: hello",
        )
    ],
    "a summary asked for by the application": [
        *CHAT,
        ("system", "Summarize the discussion in 200 words or less to use as a prompt for later."),
    ],
    "a title after the transcript": [
        (
            "user",
            "Here is our conversation:\n" + TRANSCRIPT + "\n\nGenerate a title for it. Only text.",
        )
    ],
    "standalone question": [
        (
            "user",
            "Given this conversation and a follow up question:\n\nChat History:\n"
            + TRANSCRIPT
            + "\n\nRephrase the follow up question as a standalone question.\nAnd in autumn?",
        )
    ],
}
TASKS = {
    "a question": [("user", "How do I prune roses?")],
    "a title of something else": [("user", "Generate a title for my blog post about roses.")],
    "a title for a chat program": [
        ("user", "Suggest a name and a title for our chat app. Only one.")
    ],
    "a program for titles": [
        *CHAT,
        ("user", "Write a program that generates a title for a chat. Only code, no comments."),
    ],
    "a question about tags": [*CHAT, ("user", "What do the tags of a chat mean?")],
    "a question about a transcript": [
        ("user", "Who is right in this conversation?\n\n" + TRANSCRIPT)
    ],
    "an app that may title chats": [
        (
            "system",
            "You are a helpful gardener. " * 20 + "Generate a title for the chat only if asked.",
        ),
        ("user", "How do I prune roses?"),
    ],
    "a chat application": [("user", "Write a chat server in Go with tests. Only code.")],
    "a summary of a text": [("user", "Summarize the text:\n\nThe conversation was long.")],
    "a tool's result": [
        ("user", "Generate a title for the chat, only JSON.\n" + HISTORY),
        ("assistant", ""),
        ("tool", "ok"),
    ],
    "an assistant that is told to summarise": [
        (
            "system",
            "You are a senior engineer in a team chat. Provide a summary at the end, in JSON only.",
        ),
        ("user", "Find the deadlock in this scheduler and prove that your change removes it."),
    ],
    "a task with a summary at its end": [
        *CHAT,
        (
            "user",
            "Prove Wedderburn's little theorem. Provide a summary of this discussion only at the "
            "end.",
        ),
    ],
    "a task beside a transcript": [
        (
            "user",
            "Debug my React chat app, which loses messages.\nGenerate tags for each fault.\n"
            "assistant: hi",
        )
    ],
    "a summary, then a task": [
        *CHAT,
        (
            "user",
            "Summarize our discussion, then implement it in Rust with only the standard library.",
        ),
    ],
    "a summary and a repair": [
        ("user", "Write a summary of the bugs in this chat log parser and fix them all.\n\nAI: hi")
    ],
    "a follow-up assistant": [
        (
            "system",
            "You are a follow-up care assistant for a chat. Only answer from the guidelines.",
        ),
        ("user", "I have a fever of 39 after the operation. What now?"),
    ],
    "a title clerk": [
        ("system", "You are a title insurance assistant. Only answer title law in this chat."),
        ("user", "Is an unrecorded easement binding?"),
    ],
    "an assistant with a summary at the end": [
        ("system", "You are an AI assistant. Provide a summary of the chat only at the end."),
        ("user", "Design a lock."),
    ],
    "a task before a transcript": [
        (
            "user",
            "Prove that sqrt(2) is irrational, step by step.\n\nConversation:\nbob: hi\n\n"
            "Generate tags for it.",
        )
    ],
    "a repair before a transcript": [
        (
            "user",
            "Fix the bug in my parser.\n\nConversation:\nA: it fails\n\nWrite a summary of the "
            "discussion. Only JSON.",
        )
    ],
    "a prompt for a picture of something else": [
        ("user", "Generate a detailed prompt for an image of a knight in a chat room. Only text.")
    ],
    "a model of a user": [
        (
            "user",
            "Write a simulator for our chat that predicts the messages the user might send next."
            "\n\nConversation:\nbob: hi",
        )
    ],
    "an emoji in a program": [
        ("user", "Write a chat bot that reflects the speaker's mood through an emoji.\nbot: hi")
    ],
    "a message to reply to": [
        ("user", "Explain the deadlock in this message.\n\nMessage: ```thread 1 waits```")
    ],
    "nothing": [],
}


@pytest.mark.parametrize("name", HOUSEKEEPING)
def test_housekeeping_is_recognised(name: str) -> None:
    assert is_housekeeping(HOUSEKEEPING[name])


@pytest.mark.parametrize("name", TASKS)
def test_task_is_not_housekeeping(name: str) -> None:
    assert not is_housekeeping(TASKS[name])
