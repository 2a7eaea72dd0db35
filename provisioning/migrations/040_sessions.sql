ALTER TABLE boards ADD COLUMN ending INTEGER NOT NULL DEFAULT 0;  -- 1: a session of who had this name before may go on (`ending`)
