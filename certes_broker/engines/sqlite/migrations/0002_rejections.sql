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
