"""Budgets: how much each person may use, exact on every node because PostgreSQL counts.

`amounts` says what there is to limit and what a prompt is worth, `ledger` books it,
`refusals` says that too little is left, `overview` what is, and `administered` changes who may
use how much. Answers are charged through `chatkeep.answering.charges`.
"""
