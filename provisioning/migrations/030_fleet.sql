CREATE TABLE settings (               -- what is wanted, as the agent's file has it; merged site < tags < board
    scope TEXT NOT NULL CHECK (scope IN ('site', 'tag', 'board')),
    name TEXT NOT NULL DEFAULT '',    -- of the tag or the board
    settings TEXT NOT NULL,
    changed_at INTEGER NOT NULL,
    PRIMARY KEY (scope, name)
) STRICT;

CREATE TABLE fleet (                  -- what each board was told, and what it said
    board TEXT PRIMARY KEY REFERENCES boards (name),
    thumbprint TEXT NOT NULL DEFAULT '',  -- the identity that `heard` counts for
    sent INTEGER NOT NULL DEFAULT 0,  -- highest number of an order
    heard INTEGER NOT NULL DEFAULT 0, -- highest number of a `here`
    released TEXT,                    -- settings that it is to run by; NULL before any
    released_version TEXT NOT NULL DEFAULT '',
    effect TEXT NOT NULL DEFAULT '',  -- version in force, as it says
    refused TEXT NOT NULL DEFAULT '', -- version that it could not use: not sent again by itself
    note TEXT NOT NULL DEFAULT ''     -- what it says is wrong
) STRICT;

CREATE TABLE orders (                 -- from commands to the one process that is on the broker, and back
    id INTEGER PRIMARY KEY,
    board TEXT NOT NULL REFERENCES boards (name),
    kind TEXT NOT NULL,
    body TEXT NOT NULL,               -- empty once it is done: it may hold secrets
    state TEXT NOT NULL DEFAULT 'waiting' CHECK (state IN ('waiting', 'sent', 'begun', 'done', 'failed')),
    number INTEGER NOT NULL DEFAULT 0,    -- of its envelope
    created_at REAL NOT NULL,
    expires_at REAL NOT NULL,         -- not sent after this
    changed_at REAL NOT NULL,
    code INTEGER NOT NULL DEFAULT 0,
    text TEXT NOT NULL DEFAULT '',
    data TEXT NOT NULL DEFAULT ''
) STRICT;
CREATE INDEX orders_open ON orders (board, id) WHERE state IN ('waiting', 'sent', 'begun');
CREATE INDEX orders_number ON orders (board, number);
