// The answer of the other tier, below an answer of the chat.

/** Create the element that requests and shows it; null without one. */
export const createOtherAnswer = () => null
