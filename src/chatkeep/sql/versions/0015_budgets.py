"""Budgets: what each answer is charged, what a person has used, and who may use how much.

A charge is made before a model is asked and set right afterwards. The `ceiling` columns hold
what was allowed when the row was last charged: a check that fails refuses the charge, and
with it the question and the run of the same transaction. Setting right lifts them, because
what was used was used.
"""

from __future__ import annotations

from alembic import op

from chatkeep.sql.closing import closed

revision = "0015"
down_revision = "0014"

TABLES = """
create table chat.charges (
  user_id text not null,
  id text not null,
  day date not null,
  model text not null,
  prompt_tokens bigint not null,
  output_tokens bigint not null,
  prompt_cost numeric not null,
  cost numeric not null,
  -- What of it stands in the server's total; null where no total is kept.
  total_cost numeric,
  tokens_ceiling numeric not null,
  cost_ceiling numeric not null,
  expires_at timestamptz not null,
  settled_at timestamptz,
  primary key (user_id, id),
  constraint budget_tokens_per_run check (prompt_tokens + output_tokens <= tokens_ceiling),
  constraint budget_cost_per_run check (cost <= cost_ceiling)
);
create index charges_open on chat.charges (expires_at) where settled_at is null;
create index charges_settled on chat.charges (settled_at) where settled_at is not null;

create table chat.budgets (
  user_id text primary key,
  day date not null,
  day_tokens bigint not null,
  day_cost numeric not null,
  month_tokens bigint not null,
  month_cost numeric not null,
  day_tokens_ceiling numeric not null,
  day_cost_ceiling numeric not null,
  month_tokens_ceiling numeric not null,
  month_cost_ceiling numeric not null,
  constraint budget_tokens_per_day check (day_tokens <= day_tokens_ceiling),
  constraint budget_cost_per_day check (day_cost <= day_cost_ceiling),
  constraint budget_tokens_per_month check (month_tokens <= month_tokens_ceiling),
  constraint budget_cost_per_month check (month_cost <= month_cost_ceiling)
);

create table chat.usage (
  user_id text not null,
  day date not null,
  model text not null,
  answers bigint not null,
  prompt_tokens bigint not null,
  completion_tokens bigint not null,
  cost numeric not null,
  primary key (user_id, day, model)
);

create table chat.budget_totals (
  day date primary key,
  cost numeric not null,
  ceiling numeric not null,
  constraint budget_cost_per_day_total check (cost <= ceiling)
);

-- Null: not said here, so the next one counts; 'infinity': no limit.
create table chat.budget_limits (
  kind text not null check (kind in ('role', 'user')),
  name text not null,
  tokens_per_day numeric check (tokens_per_day >= 0),
  tokens_per_month numeric check (tokens_per_month >= 0),
  tokens_per_run numeric check (tokens_per_run >= 0),
  cost_per_day numeric check (cost_per_day >= 0),
  cost_per_month numeric check (cost_per_month >= 0),
  cost_per_run numeric check (cost_per_run >= 0),
  updated_at timestamptz not null default now(),
  primary key (name, kind)
);

-- How much an unfinished answer has said, for who must charge it when its server died.
alter table chat.runs add column if not exists said integer not null default 0;
"""

OF_CALLER = """
create policy charges_of_caller on chat.charges
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
create policy charges_to_settle on chat.charges
  for all to chatkeep_worker using (true) with check (true);

create policy budgets_of_caller on chat.budgets
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
create policy budgets_to_settle on chat.budgets
  for all to chatkeep_worker using (true) with check (true);

create policy usage_of_caller on chat.usage
  for all to chatkeep_app
  using (user_id = (select chat.caller_id())) with check (user_id = (select chat.caller_id()));
create policy usage_to_settle on chat.usage
  for all to chatkeep_worker using (true) with check (true);
"""

CLOSED = (
    "chat.charges",
    "chat.budgets",
    "chat.usage",
    "chat.budget_totals",
    "chat.budget_limits",
)

RIGHTS = """
grant select, insert, update on chat.charges, chat.budgets, chat.usage to chatkeep_app;
grant select, update on chat.charges, chat.budgets to chatkeep_worker;
grant delete on chat.charges to chatkeep_worker;
grant select, insert, update on chat.usage to chatkeep_worker;
grant select (said) on chat.runs to chatkeep_worker;

create policy budget_totals_used on chat.budget_totals
  for all to chatkeep_app, chatkeep_worker using (true) with check (true);
grant select, insert, update on chat.budget_totals to chatkeep_app;
grant select, update, delete on chat.budget_totals to chatkeep_worker;

create policy budget_limits_of_caller on chat.budget_limits
  for select to chatkeep_app using (name = (select chat.caller_id()));
create policy budget_limits_of_roles on chat.budget_limits
  for select to chatkeep_app using (kind = 'role');
create policy budget_limits_administered on chat.budget_limits
  for all to chatkeep_admin using (true) with check (true);
grant select on chat.budget_limits to chatkeep_app;
grant select, insert, update, delete on chat.budget_limits to chatkeep_admin;

grant usage on schema chat to chatkeep_admin;
create policy usage_summed on chat.usage for select to chatkeep_admin using (true);
grant select on chat.usage to chatkeep_admin;
"""


def upgrade() -> None:
    """Add the tables; servers of the version before charge nothing."""
    for part in (TABLES, closed(*CLOSED), OF_CALLER, RIGHTS):
        op.execute(part)


def downgrade() -> None:
    """Refuse: what everybody has used would be forgotten."""
    raise RuntimeError("restore a backup instead: going back would forget what was used")
