-- The schema as the migrations leave it, to be read. A test holds the two together; the engine runs the migrations.

-- The journal. A row is a block: the events of one commit, or a part of them. The columns that are read alone stand
-- before the large ones, so that reading them does not follow the pages of the body.
CREATE TABLE blocks (
    first INTEGER PRIMARY KEY,        -- position of the first event; the others follow without holes
    last INTEGER NOT NULL,            -- position of the last event
    latest_accept INTEGER NOT NULL,   -- the highest accept time up to and including this block, microseconds
    size INTEGER NOT NULL,            -- bytes of this block and of its originals
    total INTEGER NOT NULL,           -- sum of `size` over all blocks ever written, up to and including this one
    header TEXT NOT NULL,             -- JSON: what routing must know of each event, by columns
    body BLOB NOT NULL                -- the events' bytes, one after the other
) STRICT;

-- Foreign webhooks as they came, for the events that were made of one.
CREATE TABLE originals (
    position INTEGER PRIMARY KEY,
    content_type TEXT NOT NULL,
    headers TEXT NOT NULL,            -- JSON: pairs of name and value
    body BLOB NOT NULL
) STRICT;

-- What makes appends idempotent. A period is one dedupe window long; old periods go as a whole.
CREATE TABLE ids (
    period INTEGER NOT NULL,
    source TEXT NOT NULL,
    id TEXT NOT NULL,
    digest BLOB NOT NULL,
    position INTEGER NOT NULL,
    PRIMARY KEY (period, source, id)
) STRICT, WITHOUT ROWID;

-- Single numbers: 'watermark', 'epoch' (of the newest lease), 'revision' (of the newest settings change).
CREATE TABLE counters (
    name TEXT PRIMARY KEY,
    value INTEGER NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE cursors (
    subscription TEXT PRIMARY KEY,
    floor INTEGER NOT NULL,
    read_mark INTEGER NOT NULL,
    level INTEGER NOT NULL,           -- 1: the watermark speaks for it, too
    settled TEXT NOT NULL             -- JSON: the ends of the settled ranges, each less the one before, the first less the floor
) STRICT, WITHOUT ROWID;

-- Deliveries that are owed later.
CREATE TABLE owed (
    subscription TEXT NOT NULL,
    position INTEGER NOT NULL,
    kind TEXT NOT NULL,
    due INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    first_try INTEGER NOT NULL,
    ordering_key TEXT NOT NULL,
    error TEXT NOT NULL,
    PRIMARY KEY (subscription, position)
) STRICT, WITHOUT ROWID;

-- Deliveries that were given up on. They outlive the journal's retention, so each has a copy of its event.
CREATE TABLE dead_letters (
    subscription TEXT NOT NULL,
    position INTEGER NOT NULL,
    attempts INTEGER NOT NULL,
    reason TEXT NOT NULL,
    error TEXT NOT NULL,
    time INTEGER NOT NULL,
    header TEXT NOT NULL,             -- as in a block of this one event
    body BLOB NOT NULL,
    PRIMARY KEY (subscription, position)
) STRICT;

-- What is past its time.
CREATE INDEX dead_letters_by_time ON dead_letters (time);

-- Ranges that retention trimmed before a subscription had read them.
CREATE TABLE gaps (
    subscription TEXT NOT NULL,
    first INTEGER NOT NULL,
    last INTEGER NOT NULL,
    reason TEXT NOT NULL,
    time INTEGER NOT NULL,
    PRIMARY KEY (subscription, first, last)
) STRICT, WITHOUT ROWID;

-- The log of webhook attempts. A row holds what one commit recorded for one subscription.
CREATE TABLE attempts (
    number INTEGER PRIMARY KEY,
    subscription TEXT NOT NULL,
    latest INTEGER NOT NULL,          -- time of the latest attempt in it
    entries TEXT NOT NULL             -- JSON: one list for each attempt, oldest first
) STRICT;

CREATE INDEX attempts_by_subscription ON attempts (subscription, number);

CREATE TABLE documents (
    key TEXT PRIMARY KEY,
    body BLOB NOT NULL,
    revision INTEGER NOT NULL
) STRICT;

-- The log of payloads that sources did not take. The body stands last, so that reading the rest does not follow its pages.
CREATE TABLE rejections (
    number INTEGER PRIMARY KEY AUTOINCREMENT,  -- AUTOINCREMENT: a number that was forgotten is not given again
    source TEXT NOT NULL,
    time INTEGER NOT NULL,
    verified INTEGER NOT NULL,        -- 1: its signature had been accepted
    size INTEGER NOT NULL,            -- bytes of the body and the headers
    reason TEXT NOT NULL,
    message TEXT NOT NULL,
    content_type TEXT NOT NULL,
    headers TEXT NOT NULL,            -- JSON: pairs of name and value
    body BLOB NOT NULL
) STRICT;

CREATE INDEX rejections_by_source ON rejections (source, number);

-- What goes first when there is too much.
CREATE INDEX unverified_rejections ON rejections (source, number) WHERE verified = 0;
