ALTER TABLE boards ADD COLUMN door TEXT NOT NULL DEFAULT '';    -- by what it was enrolled: https or mqtt
ALTER TABLE boards ADD COLUMN model TEXT NOT NULL DEFAULT '';   -- as it says itself
ALTER TABLE boards ADD COLUMN told_serial TEXT NOT NULL DEFAULT '';
ALTER TABLE boards ADD COLUMN rotate_at INTEGER;                -- certificates from before are revoked once a newer one is in use
ALTER TABLE certificates ADD COLUMN tls_key TEXT NOT NULL DEFAULT ''; -- SHA-256 of its SubjectPublicKeyInfo: a retry gets the same one
ALTER TABLE certificates ADD COLUMN used_at INTEGER;            -- when it was first shown
CREATE INDEX certificates_key ON certificates (board, tls_key);
