BEGIN TRANSACTION;
CREATE TABLE calls (
            id INTEGER PRIMARY KEY, category TEXT NOT NULL, purpose TEXT NOT NULL, what TEXT NOT NULL,
            n INTEGER NOT NULL, state TEXT NOT NULL CHECK (state IN ('held', 'settled', 'lost', 'released')),
            held INTEGER NOT NULL CHECK (held >= 0), charged INTEGER NOT NULL DEFAULT 0,
            paid INTEGER NOT NULL DEFAULT 0, usage TEXT NOT NULL DEFAULT '{}',
            micros_per_second REAL, began REAL NOT NULL, ended REAL);
INSERT INTO "calls" VALUES(1,'llm','teach','replay, bought before: 2 texts',2,'settled',412,412,0,'{}',NULL,1.79603242590809965132e+09,1.79603242591786241527e+09);
INSERT INTO "calls" VALUES(2,'llm','teach','replay: 4 texts',4,'settled',824,824,824,'{"input_tokens": 820, "output_tokens": 4}',NULL,1.79603242592354464535e+09,1.79603242594324827201e+09);
INSERT INTO "calls" VALUES(3,'llm','teach','replay writes 2 texts',2,'settled',224,211,211,'{"input_tokens": 200, "output_tokens": 11}',NULL,1.79603242597173905379e+09,1.79603242597533750537e+09);
INSERT INTO "calls" VALUES(4,'compute','train','train linear on 7 texts',7,'settled',998553,1,1,'{"seconds": 0.0033262209999520564}',2.77777777777777785668e+01,1.79603242606012511255e+09,1.79603242607052397726e+09);
INSERT INTO "calls" VALUES(5,'llm','teach','openai:gpt-4o by batch: 2 texts',2,'held',5000,0,0,'{}',NULL,1.79603242625980520251e+09,NULL);
INSERT INTO "calls" VALUES(6,'human','teach','human labels: 2 texts',2,'held',5000,0,0,'{}',NULL,1.79603242626863861082e+09,NULL);
CREATE TABLE kept (
            key TEXT PRIMARY KEY, value TEXT NOT NULL, call INTEGER REFERENCES calls (id)) WITHOUT ROWID;
INSERT INTO "kept" VALUES('0f73709fda8c1c8c8f50abf97a2b690a','{"student": "linear", "n": 7, "seconds": 0.003323296999951708}',4);
INSERT INTO "kept" VALUES('236d0309bc3b20a9c60f57acb0de8df3','[["lovely lovely thing 5", "good"], ["fine lovely thing 4", "good"]]',3);
INSERT INTO "kept" VALUES('6279e199132a61e533c51af44abccab5','{"state": "ok", "scores": [-0.0022161492057573, -6.113092051210488], "how": "stated", "raw": "bad"}',2);
INSERT INTO "kept" VALUES('8144fbbfb7eca234bac7e1a6cba07874','{"state": "ok", "scores": [-8.014330272473444, -0.0003307443277197549], "how": "stated", "raw": "good"}',1);
INSERT INTO "kept" VALUES('91788140a10924d6102fbb5698b66bac','{"state": "ok", "scores": [-0.17608800471412092, -1.8235237604295729], "how": "stated", "raw": "bad"}',2);
INSERT INTO "kept" VALUES('cc926c08c7d45e27a9eaadec99a46a8b','{"state": "ok", "scores": [-3.9716051246791086, -0.019022957803720326], "how": "stated", "raw": "good"}',2);
INSERT INTO "kept" VALUES('def65da12de36d51c6870329932ccc10','{"state": "ok", "scores": [-0.011756650223548508, -4.449208788024753], "how": "stated", "raw": "bad"}',1);
INSERT INTO "kept" VALUES('e09de6c5660d099050b16e6f1536390a','{"state": "ok", "scores": [-3.3312865357087067, -0.036401659413609386], "how": "stated", "raw": "good"}',2);
CREATE TABLE meta (name TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;
INSERT INTO "meta" VALUES('examples','[]');
INSERT INTO "meta" VALUES('given to /runs/answers.sqlite','1796032425.9753375');
INSERT INTO "meta" VALUES('identity','{"seed": 0, "teacher": {"name": "replay", "file": "known.jsonl", "accuracy": 0.9, "usd_per_million": 1.0, "batch": 4, "held_back": "known.jsonl"}, "student": {"name": "linear"}, "procedure": {"name": "kd"}, "prices": {}, "data": "2711f7f7e595e8c7b534e2376bdebd7a", "task": "b61959d57688d189491b28db6a4b80fd"}');
INSERT INTO "meta" VALUES('limit_micros','1000000');
INSERT INTO "meta" VALUES('task','{"name": "task", "labels": ["bad", "good"], "descriptions": {}, "instruction": "", "kind": "single"}');
INSERT INTO "meta" VALUES('tickets key of openai:gpt-4o','64');
CREATE TABLE notes (id INTEGER PRIMARY KEY, time REAL NOT NULL, what TEXT NOT NULL, facts TEXT NOT NULL);
INSERT INTO "notes" VALUES(1,1.79603242589587640764e+09,'opened','{"budget_usd": 1.0}');
INSERT INTO "notes" VALUES(2,1.79603242596335291869e+09,'asked','{"purpose": "teach", "teacher": "replay", "asked": 6, "by_state": {"ok": 6}, "seconds": 0.05543609199958155}');
INSERT INTO "notes" VALUES(3,1.79603242625932407383e+09,'judged','{"student": "round 3", "n": 8, "accuracy": 1.0}');
CREATE TABLE tickets (
            call INTEGER PRIMARY KEY REFERENCES calls (id), teacher TEXT NOT NULL, mark TEXT NOT NULL UNIQUE,
            place TEXT NOT NULL DEFAULT '', keys TEXT NOT NULL, facts TEXT NOT NULL);
INSERT INTO "tickets" VALUES(5,'key of openai:gpt-4o','mark of openai:gpt-4o','place of openai:gpt-4o','["a1", "a2"]','{"samples": 3, "most": {"input_tokens": 40, "output_tokens": 8}}');
INSERT INTO "tickets" VALUES(6,'key of human','mark of human','place of human','["a1", "a2"]','{"samples": 3, "most": {"input_tokens": 40, "output_tokens": 8}}');
COMMIT;
PRAGMA user_version=2;
