"""The ten tasks that each client is measured with: five easy, five hard.

They were chosen for what people ask, not for their scores: everyday questions that a small model
answers well, and work where an expert would want the larger model. Each is what a user types; the
client adds what it adds. The shipped router sends all easy ones to the local model and all hard
ones to the cloud when they are sent alone (`hybrid-llm route "TEXT"`).
"""

from typing import Final

EASY: Final = (
    "What is the capital of Australia?",
    "Rewrite this sentence politely: Send me the report now.",
    "Suggest three names for a small bakery.",
    "Translate to French: Where is the nearest train station?",
    "How long should I boil an egg so that the yolk stays soft?",
)
HARD: Final = (
    "Prove that there are infinitely many primes congruent to 3 modulo 4.",
    "Find all functions f from the reals to the reals such that f(x + f(y)) = f(x) + y"
    " for all real x and y.",
    "Implement a lock-free multi-producer multi-consumer queue in C++"
    " and argue that it is linearizable.",
    "A 62-year-old man with chronic kidney disease has a potassium of 6.4 mmol/L"
    " and peaked T waves. Discuss the differential diagnosis and the order of treatment.",
    "Derive the Black-Scholes equation with a no-arbitrage argument"
    " and state where each assumption enters.",
)
