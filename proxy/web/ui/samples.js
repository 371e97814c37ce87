// The samples of an empty chat, from easy to hard. The shipped router sends the first half to the
// local tier and the second half to the cloud. tests/pages/test_samples.py checks that.

export const SAMPLES = [
  ['What is the capital of France?', 'a fact'],
  ['Suggest three names for a small bakery.', 'ideas'],
  ['Explain what an index does in a database, to a beginner.', 'an explanation'],
  ['Write a Python function that reverses a string.', 'a short function'],
  ['Prove that the square root of 2 is irrational.', 'a proof'],
  ['Write a regular expression that matches valid IPv4 addresses and explain each part.', 'code'],
  [
    'Write an SQL query that finds the second highest salary of each department, with ties.',
    'a query',
  ],
  ['Evaluate the integral of x² e^(-x) from 0 to infinity, step by step.', 'calculus'],
]
