-- Dead letters are let go of by time.
CREATE INDEX dead_letters_by_time ON dead_letters (time);
