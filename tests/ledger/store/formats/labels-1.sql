BEGIN TRANSACTION;
CREATE TABLE asked (
            id TEXT PRIMARY KEY, number INTEGER NOT NULL, mark TEXT NOT NULL, text TEXT NOT NULL,
            wanted INTEGER NOT NULL, taken INTEGER NOT NULL DEFAULT 0, closed INTEGER NOT NULL DEFAULT 0);
INSERT INTO "asked" VALUES('t0',1,'mark of human','a text',2,0,0);
CREATE TABLE said (
            n INTEGER PRIMARY KEY, id TEXT NOT NULL REFERENCES asked (id), annotator TEXT NOT NULL,
            label TEXT NOT NULL, seconds REAL NOT NULL, at REAL NOT NULL, way TEXT NOT NULL,
            undone INTEGER NOT NULL DEFAULT 0);
INSERT INTO "said" VALUES(1,'t0','ann','good',1.5,1.79603242632717776294e+09,'page',0);
INSERT INTO "said" VALUES(2,'t0','bob','bad',0.0,1.79603242633511710167e+09,'page',1);
INSERT INTO "said" VALUES(3,'t0','bob','good',0.0,1.79603242634316968917e+09,'page',0);
CREATE TABLE skipped (id TEXT, annotator TEXT, at REAL NOT NULL, PRIMARY KEY (id, annotator));
INSERT INTO "skipped" VALUES('t0','eve',1.7960324263400444984e+09);
CREATE INDEX asked_by_mark ON asked (mark);
CREATE UNIQUE INDEX said_once ON said (id, annotator) WHERE undone = 0;
COMMIT;
PRAGMA user_version=1;
