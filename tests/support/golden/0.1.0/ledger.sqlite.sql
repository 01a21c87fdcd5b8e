BEGIN TRANSACTION;
CREATE TABLE alembic_version (
	version_num VARCHAR(32) NOT NULL, 
	CONSTRAINT alembic_version_pkc PRIMARY KEY (version_num)
);
INSERT INTO "alembic_version" VALUES('0005');
CREATE TABLE attempt (
	record_id VARCHAR NOT NULL, 
	take_id VARCHAR NOT NULL, 
	run_id VARCHAR NOT NULL, 
	worker_id VARCHAR NOT NULL, 
	outcome VARCHAR NOT NULL, 
	reasons JSON NOT NULL, 
	adopted BOOLEAN NOT NULL, 
	batch_id VARCHAR NOT NULL, 
	batch_size INTEGER NOT NULL, 
	plan_ms INTEGER NOT NULL, 
	encode_ms INTEGER NOT NULL, 
	diffuse_ms INTEGER NOT NULL, 
	decode_ms INTEGER NOT NULL, 
	post_ms INTEGER NOT NULL, 
	audio_ms BIGINT NOT NULL, 
	at_ms BIGINT NOT NULL, plan_id VARCHAR DEFAULT '' NOT NULL, 
	CONSTRAINT pk_attempt PRIMARY KEY (record_id), 
	CONSTRAINT ck_attempt_known_outcome CHECK (outcome in ('accepted', 'rejected', 'failed'))
);
INSERT INTO "attempt" VALUES('6b4a86fc89b74e9ea1f4b7d3d71e0244','856a405c4712f8f5b6ee07ee','a42e83ff144b41228697fbe85917fe18','7f585fdfc743455387e7e3456184d5c2','accepted','[]',0,'423e8420e8334b3e96b82e1d9c21716f',2,221,6,36,653,447,10000,1795996032217,'b1e7a67db1c84a5c8b94e93253e0aa4f');
INSERT INTO "attempt" VALUES('fae25f33dfc54b968b8db1b396ce9cbf','1b117c4d27e3986447a1f808','a42e83ff144b41228697fbe85917fe18','7f585fdfc743455387e7e3456184d5c2','accepted','[]',0,'423e8420e8334b3e96b82e1d9c21716f',2,221,7,36,654,542,10000,1795996032311,'b1e7a67db1c84a5c8b94e93253e0aa4f');
INSERT INTO "attempt" VALUES('075395f90ed64ca8be4646ab920b9761','1525b291314cc98c02d03b00','fe1c817e9c074e52a0eb64ec81e5d40a','a2819be450b94bf890603c9c2c50a3d4','accepted','[]',0,'9682c2b4af5e44b6a28f4e648115449f',3,0,0,66,0,1588,10000,1795996041108,'');
INSERT INTO "attempt" VALUES('5240ddf79ca44b8faaf8e577712457b1','292a6d37991b8a3d952e2abd','fe1c817e9c074e52a0eb64ec81e5d40a','a2819be450b94bf890603c9c2c50a3d4','accepted','[]',0,'9682c2b4af5e44b6a28f4e648115449f',3,0,0,65,0,1773,10000,1795996041294,'');
INSERT INTO "attempt" VALUES('201957c431d5477e989e1e68397ae35c','107f76892c2105f1dd1f462e','fe1c817e9c074e52a0eb64ec81e5d40a','a2819be450b94bf890603c9c2c50a3d4','accepted','[]',0,'9682c2b4af5e44b6a28f4e648115449f',3,0,0,66,0,1478,10000,1795996042542,'');
CREATE TABLE budget (
	budget_id INTEGER NOT NULL, 
	scope VARCHAR NOT NULL, 
	name VARCHAR NOT NULL, 
	period VARCHAR NOT NULL, 
	usd_micros BIGINT, 
	set_ms BIGINT NOT NULL, 
	CONSTRAINT pk_budget PRIMARY KEY (budget_id), 
	CONSTRAINT ck_budget_known_scope CHECK (scope in ('month', 'catalog', 'run'))
);
CREATE TABLE closed_period (
	period VARCHAR NOT NULL, 
	closed_ms BIGINT NOT NULL, 
	closed_by VARCHAR NOT NULL, 
	time_zone VARCHAR NOT NULL, 
	high_water_id BIGINT NOT NULL, 
	entries BIGINT NOT NULL, 
	control_usd_micros BIGINT NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	CONSTRAINT pk_closed_period PRIMARY KEY (period)
);
CREATE TABLE cost_entry (
	entry_id INTEGER NOT NULL, 
	posting_id BIGINT NOT NULL, 
	period VARCHAR NOT NULL, 
	category VARCHAR NOT NULL, 
	catalog VARCHAR NOT NULL, 
	zone VARCHAR NOT NULL, 
	genre VARCHAR NOT NULL, 
	run_id VARCHAR NOT NULL, 
	usd_micros BIGINT, 
	ms BIGINT NOT NULL, 
	tracks INTEGER NOT NULL, 
	attempts INTEGER NOT NULL, 
	audio_ms BIGINT NOT NULL, 
	CONSTRAINT pk_cost_entry PRIMARY KEY (entry_id), 
	CONSTRAINT fk_cost_entry_posting_id_posting FOREIGN KEY(posting_id) REFERENCES posting (posting_id)
);
INSERT INTO "cost_entry" VALUES(1,1,'2026-11','accepted','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18',926,1861,0,0,0);
INSERT INTO "cost_entry" VALUES(2,1,'2026-11','accepted','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a',35,69,0,0,0);
INSERT INTO "cost_entry" VALUES(3,1,'2026-11','accepted','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a',34,69,0,0,0);
INSERT INTO "cost_entry" VALUES(4,1,'2026-11','idle','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18',1936,3893,0,0,0);
INSERT INTO "cost_entry" VALUES(5,1,'2026-11','idle','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a',72,144,0,0,0);
INSERT INTO "cost_entry" VALUES(6,1,'2026-11','idle','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a',143,289,0,0,0);
INSERT INTO "cost_entry" VALUES(7,1,'2026-11','lost','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18',1,3,0,0,0);
INSERT INTO "cost_entry" VALUES(8,1,'2026-11','lost','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a',0,0,0,0,0);
INSERT INTO "cost_entry" VALUES(9,1,'2026-11','lost','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a',0,0,0,0,0);
INSERT INTO "cost_entry" VALUES(10,1,'2026-11','post','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18',499,1004,0,0,0);
INSERT INTO "cost_entry" VALUES(11,1,'2026-11','post','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a',19,37,0,0,0);
INSERT INTO "cost_entry" VALUES(12,1,'2026-11','post','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a',37,75,0,0,0);
INSERT INTO "cost_entry" VALUES(13,1,'2026-11','rejected','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a',34,69,0,0,0);
INSERT INTO "cost_entry" VALUES(14,1,'2026-11','startup','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18',8210,16512,0,0,0);
INSERT INTO "cost_entry" VALUES(15,1,'2026-11','startup','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a',304,612,0,0,0);
INSERT INTO "cost_entry" VALUES(16,1,'2026-11','startup','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a',609,1225,0,0,0);
INSERT INTO "cost_entry" VALUES(17,1,'2026-11','teardown','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18',48,96,0,0,0);
INSERT INTO "cost_entry" VALUES(18,1,'2026-11','teardown','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a',2,4,0,0,0);
INSERT INTO "cost_entry" VALUES(19,1,'2026-11','teardown','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a',3,7,0,0,0);
INSERT INTO "cost_entry" VALUES(20,1,'2026-11','unobserved','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18',1462,2939,0,0,0);
INSERT INTO "cost_entry" VALUES(21,1,'2026-11','unobserved','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a',54,109,0,0,0);
INSERT INTO "cost_entry" VALUES(22,1,'2026-11','unobserved','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a',108,218,0,0,0);
INSERT INTO "cost_entry" VALUES(23,2,'2026-11','accepted','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18',0,0,2,2,20000);
INSERT INTO "cost_entry" VALUES(24,2,'2026-11','accepted','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a',0,0,1,1,10000);
INSERT INTO "cost_entry" VALUES(25,2,'2026-11','accepted','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a',0,0,1,1,10000);
INSERT INTO "cost_entry" VALUES(26,2,'2026-11','rejected','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a',0,0,0,1,0);
CREATE TABLE cost_monthly (
	period VARCHAR NOT NULL, 
	applies_to VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	category VARCHAR NOT NULL, 
	catalog VARCHAR NOT NULL, 
	zone VARCHAR NOT NULL, 
	genre VARCHAR NOT NULL, 
	run_id VARCHAR NOT NULL, 
	provider VARCHAR NOT NULL, 
	gpu VARCHAR NOT NULL, 
	market VARCHAR NOT NULL, 
	usd_micros BIGINT NOT NULL, 
	unpriced_ms BIGINT NOT NULL, 
	ms BIGINT NOT NULL, 
	tracks BIGINT NOT NULL, 
	attempts BIGINT NOT NULL, 
	audio_ms BIGINT NOT NULL, 
	CONSTRAINT pk_cost_monthly PRIMARY KEY (period, applies_to, kind, category, catalog, zone, genre, run_id, provider, gpu, market)
);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','accepted','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18','runpod','a100-80gb','on_demand',926,0,1861,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','accepted','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',35,0,69,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','accepted','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',34,0,69,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','idle','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18','runpod','a100-80gb','on_demand',1936,0,3893,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','idle','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',72,0,144,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','idle','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',143,0,289,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','lost','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18','runpod','a100-80gb','on_demand',1,0,3,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','post','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18','runpod','a100-80gb','on_demand',499,0,1004,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','post','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',19,0,37,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','post','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',37,0,75,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','rejected','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',34,0,69,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','startup','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18','runpod','a100-80gb','on_demand',8210,0,16512,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','startup','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',304,0,612,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','startup','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',609,0,1225,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','teardown','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18','runpod','a100-80gb','on_demand',48,0,96,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','teardown','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',2,0,4,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','teardown','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',3,0,7,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','unobserved','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18','runpod','a100-80gb','on_demand',1462,0,2939,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','unobserved','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',54,0,109,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','estimate','unobserved','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',108,0,218,0,0,0);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','work','accepted','golden','hotel_lobby','piano_solo','a42e83ff144b41228697fbe85917fe18','runpod','a100-80gb','on_demand',0,0,0,2,2,20000);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','work','accepted','tones','hotel_lobby','acoustic_guitar','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',0,0,0,1,1,10000);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','work','accepted','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',0,0,0,1,1,10000);
INSERT INTO "cost_monthly" VALUES('2026-11','2026-11','work','rejected','tones','hotel_lobby','piano_solo','fe1c817e9c074e52a0eb64ec81e5d40a','runpod','a100-80gb','on_demand',0,0,0,0,1,0);
CREATE TABLE invoice (
	invoice_id VARCHAR NOT NULL, 
	provider VARCHAR NOT NULL, 
	number VARCHAR NOT NULL, 
	currency VARCHAR NOT NULL, 
	usd_per_unit VARCHAR NOT NULL, 
	rate_source VARCHAR NOT NULL, 
	start_ms BIGINT NOT NULL, 
	end_ms BIGINT NOT NULL, 
	file_name VARCHAR NOT NULL, 
	text VARCHAR NOT NULL, 
	total_usd_micros BIGINT NOT NULL, 
	topup_usd_micros BIGINT NOT NULL, 
	replaces VARCHAR, 
	imported_ms BIGINT NOT NULL, 
	CONSTRAINT pk_invoice PRIMARY KEY (invoice_id)
);
CREATE TABLE invoice_line (
	line_id VARCHAR NOT NULL, 
	invoice_id VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	provider VARCHAR NOT NULL, 
	meter VARCHAR NOT NULL, 
	external_id VARCHAR NOT NULL, 
	sku VARCHAR NOT NULL, 
	description VARCHAR NOT NULL, 
	start_ms BIGINT, 
	end_ms BIGINT, 
	quantity VARCHAR NOT NULL, 
	unit VARCHAR NOT NULL, 
	unit_price VARCHAR NOT NULL, 
	usd_micros BIGINT NOT NULL, 
	CONSTRAINT pk_invoice_line PRIMARY KEY (line_id), 
	CONSTRAINT ck_invoice_line_known_meter CHECK (meter in ('gpu', 'disk', 'egress', 'credit', 'tax', 'topup')), 
	CONSTRAINT fk_invoice_line_invoice_id_invoice FOREIGN KEY(invoice_id) REFERENCES invoice (invoice_id)
);
CREATE TABLE loss (
	worker_id VARCHAR NOT NULL, 
	take_id VARCHAR NOT NULL, 
	run_id VARCHAR NOT NULL, 
	at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_loss PRIMARY KEY (worker_id, take_id)
);
CREATE TABLE posting (
	posting_id INTEGER NOT NULL, 
	posted_ms BIGINT NOT NULL, 
	period VARCHAR NOT NULL, 
	applies_to VARCHAR NOT NULL, 
	"key" VARCHAR NOT NULL, 
	kind VARCHAR NOT NULL, 
	meter VARCHAR NOT NULL, 
	rental_id VARCHAR, 
	provider VARCHAR NOT NULL, 
	gpu VARCHAR NOT NULL, 
	market VARCHAR NOT NULL, 
	region VARCHAR NOT NULL, 
	sku VARCHAR NOT NULL, 
	start_ms BIGINT NOT NULL, 
	end_ms BIGINT NOT NULL, 
	usd_micros BIGINT, 
	rate_usd_micros_per_h BIGINT, 
	source VARCHAR NOT NULL, 
	invoice_line_id VARCHAR, 
	method VARCHAR NOT NULL, 
	digest VARCHAR NOT NULL, 
	reverses_id BIGINT, 
	CONSTRAINT pk_posting PRIMARY KEY (posting_id), 
	CONSTRAINT ck_posting_known_kind CHECK (kind in ('billed', 'estimate', 'work')), 
	CONSTRAINT uq_posting_reverses_id UNIQUE (reverses_id)
);
INSERT INTO "posting" VALUES(1,1795996050907,'2026-11','2026-11','estimate:runpod/pod-golden:2026-11','estimate','gpu','runpod/pod-golden','runpod','a100-80gb','on_demand','','a100-80gb',1795996014276,1795996043511,14536,1790000,'price book 2026-11-20',NULL,'busy-ms.v1 UTC','90c59580db5633fd0726c476c9a40ea915ada610f2e3d460acef4d8a14a7c5ed',NULL);
INSERT INTO "posting" VALUES(2,1795996050907,'2026-11','2026-11','work:runpod/pod-golden:2026-11','work','gpu','runpod/pod-golden','runpod','a100-80gb','on_demand','','',1793491200000,1796083200000,0,NULL,'',NULL,'busy-ms.v1 UTC','c946e8c103f2a8c13271ba0ad3aa7772cea1f581f8f065efcb34f6b75676de9d',NULL);
CREATE TABLE rendition (
	record_id VARCHAR NOT NULL, 
	take_id VARCHAR NOT NULL, 
	run_id VARCHAR NOT NULL, 
	worker_id VARCHAR NOT NULL, 
	audio_key VARCHAR NOT NULL, 
	sha256 VARCHAR NOT NULL, 
	pcm_sha256 VARCHAR NOT NULL, 
	bytes BIGINT NOT NULL, 
	audio_ms BIGINT NOT NULL, 
	dit_seed BIGINT NOT NULL, 
	lm_seed BIGINT NOT NULL, 
	model_fingerprint VARCHAR NOT NULL, 
	planner_fingerprint VARCHAR NOT NULL, 
	code VARCHAR NOT NULL, 
	gpu VARCHAR NOT NULL, 
	noise BOOLEAN NOT NULL, 
	loudness_lufs FLOAT, 
	created_at_ms BIGINT NOT NULL, 
	sidecar JSON NOT NULL, 
	CONSTRAINT pk_rendition PRIMARY KEY (record_id)
);
INSERT INTO "rendition" VALUES('6b4a86fc89b74e9ea1f4b7d3d71e0244','856a405c4712f8f5b6ee07ee','a42e83ff144b41228697fbe85917fe18','7f585fdfc743455387e7e3456184d5c2','golden/audio/hotel_lobby/piano_solo/856a405c4712f8f5b6ee07ee-17682573ba1eed04.flac','17682573ba1eed04b4d79d0ca32c657f9a559fe4f6914ed9e01823d9f0121d2a','186c026c428fb4ef85b61ce5cdbe0059ab910ec82e793dcae21365759f82a1c4',2410793,10000,452676895167357444,1576162822598198791,'84c4cf41de6595f4f749ba57dfefed174e3879c69e7a6292fb5ec45a1010a29f','17c4a36772c7f72fe5468141c28b72579d4bd097c83af14d8f302be8f3a4e1fb','tunemill 0.1.0 torch 2.13.0+cpu diffusers 0.42.1 transformers 5.24.0','a100-80gb',1,-19.62,1795996032217,'{"v": 1, "take_id": "856a405c4712f8f5b6ee07ee", "record_id": "6b4a86fc89b74e9ea1f4b7d3d71e0244", "run_id": "a42e83ff144b41228697fbe85917fe18", "take": {"track": {"catalog": "golden", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {"season": "winter"}, "slot": "0001", "title": "Revolving Album", "seed": null, "spec": {"caption": "slow solo piano piece, close-miked parlour piano with a light ostinato, hushed and hopeful, gentle tape warmth, quiet background for check-in at a grand city hotel, one clear theme that returns slightly changed, instrumental", "lyrics": "[Instrumental]", "language": "unknown", "bpm": null, "keyscale": null, "timesignature": "3", "duration_s": 10, "bounds": {"bpm": [66, 71], "keyscales": ["A minor", "B minor", "C major", "D major", "Db major", "E minor", "F major", "G major"], "timesignatures": [], "duration_s": null, "duration_step_s": 1}, "model": "tiny-random", "diffusion": {"steps": 8, "shift": 3.0}, "planner": {"model": "acestep-5Hz-lm-1.7B", "cfg_scale": 2.0, "temperature": 0.85, "top_p": 0.9, "top_k": 0, "negative_prompt": "harsh distortion, sudden drops, aggressive drums, screaming leads, lead vocals", "think_fields": ["bpm", "duration", "keyscale", "timesignature"], "assistant_turn": "open", "metadata": "fill", "open": ["bpm", "keyscale"], "reuse": true}, "master": {"format": "flac", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 452676895167357444, "lm_seed": 1576162822598198791}, "effective": {"dit_seed": 452676895167357444, "lm_seed": 1576162822598198791, "steps": 8, "shift": 3.0, "device": "cpu", "dtype": "float32", "attention": "flash_attention_for_cpu", "instruction": "Generate audio semantic tokens based on the given conditions:", "text_tokens": 166, "extra": {"lyric_tokens": 13, "codes": 50, "plan_given": true, "planner_model": "acestep-5Hz-lm-1.7B", "planner_cfg_scale": 2.0, "planner_temperature": 0.85, "planner_top_p": 0.9, "planner_top_k": 0, "planner_negative_prompt": "harsh distortion, sudden drops, aggressive drums, screaming leads, lead vocals", "planner_think_fields": "bpm,duration,keyscale,timesignature", "planner_assistant_turn": "open", "planner_metadata": "fill", "planner_open": "bpm,keyscale", "planner_reuse": true}}, "plan": {"codes": [48570, 36340, 58191, 42607, 48853, 55278, 3402, 54417, 37456, 4003, 32518, 60917, 25766, 49254, 50683, 10728, 34688, 51014, 30350, 25222, 26386, 3402, 54417, 50027, 52018, 3402, 27398, 11605, 35740, 52484, 45587, 21554, 27813, 31685, 35385, 18672, 20840, 51740, 4931, 4931, 39579, 8148, 9470, 53377, 58183, 13695, 3047, 13695, 23291, 42957], "metadata": {"bpm": 67, "duration": 10, "keyscale": "E minor", "timesignature": 3}, "prompt_sha256": "ad12ca57714ade4e640716e27215ebf75b6f4f558da70f962fe1c5febef3d226", "batch_key": "17c4a36772c7, float32, cpu, torch 2.13.0+cpu, transformers 5.24.0, loop 2, any shape, cfg"}, "fingerprints": {"model": "84c4cf41de6595f4f749ba57dfefed174e3879c69e7a6292fb5ec45a1010a29f", "planner": "17c4a36772c7f72fe5468141c28b72579d4bd097c83af14d8f302be8f3a4e1fb", "code": "tunemill 0.1.0 torch 2.13.0+cpu diffusers 0.42.1 transformers 5.24.0", "noise": true}, "measures": {"rms_dbfs": -23.63, "peak_dbfs": 0.59, "spectral_flatness": 0.4225, "loudness_in_lufs": -18.07, "loudness_out_lufs": -19.62, "true_peak_dbtp": -1.0, "gain_db": -1.552, "warnings": ["DC offset of 0.012 of the peak (limit 0.005)", "like noise: spectral flatness 0.423 (limit 0.25)", "like noise: the strongest 5 % of frequencies hold 0.34 of the energy (at least 0.6)", "still playing at its end (-11.3 dB against its mean, limit -12): faded out over 2 s", "3.6 LU below the target of -16 LUFS: its peaks leave no room"]}, "audio": {"key": "golden/audio/hotel_lobby/piano_solo/856a405c4712f8f5b6ee07ee-17682573ba1eed04.flac", "sha256": "17682573ba1eed04b4d79d0ca32c657f9a559fe4f6914ed9e01823d9f0121d2a", "pcm_sha256": "186c026c428fb4ef85b61ce5cdbe0059ab910ec82e793dcae21365759f82a1c4", "bytes": 2410793, "content_type": "audio/flac", "format": "flac", "sample_rate_hz": 48000, "channels": 2, "n_samples": 480000}, "times": {"plan_ms": 221, "encode_ms": 6, "diffuse_ms": 36, "decode_ms": 653, "post_ms": 447}, "batch": {"id": "423e8420e8334b3e96b82e1d9c21716f", "size": 2, "position": 1, "takes": ["1b117c4d27e3986447a1f808", "856a405c4712f8f5b6ee07ee"], "plan_id": "b1e7a67db1c84a5c8b94e93253e0aa4f", "plan_size": 2}, "worker_id": "7f585fdfc743455387e7e3456184d5c2", "gpu": "a100-80gb", "created_at_ms": 1795996032217, "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"}');
INSERT INTO "rendition" VALUES('fae25f33dfc54b968b8db1b396ce9cbf','1b117c4d27e3986447a1f808','a42e83ff144b41228697fbe85917fe18','7f585fdfc743455387e7e3456184d5c2','golden/audio/hotel_lobby/piano_solo/1b117c4d27e3986447a1f808-fb8eb737f8258e54.flac','fb8eb737f8258e54e3c4eb0a9e15700b54b3fdab14b284e4eda0694783fc2838','a9a8a9b0d79ebbbec1a70cb497b2b4ddcdbcaa2e938edfa495faab1c2ad58f7e',2402980,10000,7835349461777223028,1576162822598198791,'84c4cf41de6595f4f749ba57dfefed174e3879c69e7a6292fb5ec45a1010a29f','17c4a36772c7f72fe5468141c28b72579d4bd097c83af14d8f302be8f3a4e1fb','tunemill 0.1.0 torch 2.13.0+cpu diffusers 0.42.1 transformers 5.24.0','a100-80gb',1,-19.73,1795996032311,'{"v": 1, "take_id": "1b117c4d27e3986447a1f808", "record_id": "fae25f33dfc54b968b8db1b396ce9cbf", "run_id": "a42e83ff144b41228697fbe85917fe18", "take": {"track": {"catalog": "golden", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {"season": "winter"}, "slot": "0001", "title": "Revolving Album", "seed": null, "spec": {"caption": "slow solo piano piece, close-miked parlour piano with a light ostinato, hushed and hopeful, gentle tape warmth, quiet background for check-in at a grand city hotel, one clear theme that returns slightly changed, instrumental", "lyrics": "[Instrumental]", "language": "unknown", "bpm": null, "keyscale": null, "timesignature": "3", "duration_s": 10, "bounds": {"bpm": [66, 71], "keyscales": ["A minor", "B minor", "C major", "D major", "Db major", "E minor", "F major", "G major"], "timesignatures": [], "duration_s": null, "duration_step_s": 1}, "model": "tiny-random", "diffusion": {"steps": 8, "shift": 3.0}, "planner": {"model": "acestep-5Hz-lm-1.7B", "cfg_scale": 2.0, "temperature": 0.85, "top_p": 0.9, "top_k": 0, "negative_prompt": "harsh distortion, sudden drops, aggressive drums, screaming leads, lead vocals", "think_fields": ["bpm", "duration", "keyscale", "timesignature"], "assistant_turn": "open", "metadata": "fill", "open": ["bpm", "keyscale"], "reuse": true}, "master": {"format": "flac", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 2, "dit_seed": 7835349461777223028, "lm_seed": 1576162822598198791}, "effective": {"dit_seed": 7835349461777223028, "lm_seed": 1576162822598198791, "steps": 8, "shift": 3.0, "device": "cpu", "dtype": "float32", "attention": "flash_attention_for_cpu", "instruction": "Generate audio semantic tokens based on the given conditions:", "text_tokens": 166, "extra": {"lyric_tokens": 13, "codes": 50, "plan_given": true, "planner_model": "acestep-5Hz-lm-1.7B", "planner_cfg_scale": 2.0, "planner_temperature": 0.85, "planner_top_p": 0.9, "planner_top_k": 0, "planner_negative_prompt": "harsh distortion, sudden drops, aggressive drums, screaming leads, lead vocals", "planner_think_fields": "bpm,duration,keyscale,timesignature", "planner_assistant_turn": "open", "planner_metadata": "fill", "planner_open": "bpm,keyscale", "planner_reuse": true}}, "plan": {"codes": [48570, 36340, 58191, 42607, 48853, 55278, 3402, 54417, 37456, 4003, 32518, 60917, 25766, 49254, 50683, 10728, 34688, 51014, 30350, 25222, 26386, 3402, 54417, 50027, 52018, 3402, 27398, 11605, 35740, 52484, 45587, 21554, 27813, 31685, 35385, 18672, 20840, 51740, 4931, 4931, 39579, 8148, 9470, 53377, 58183, 13695, 3047, 13695, 23291, 42957], "metadata": {"bpm": 67, "duration": 10, "keyscale": "E minor", "timesignature": 3}, "prompt_sha256": "ad12ca57714ade4e640716e27215ebf75b6f4f558da70f962fe1c5febef3d226", "batch_key": "17c4a36772c7, float32, cpu, torch 2.13.0+cpu, transformers 5.24.0, loop 2, any shape, cfg"}, "fingerprints": {"model": "84c4cf41de6595f4f749ba57dfefed174e3879c69e7a6292fb5ec45a1010a29f", "planner": "17c4a36772c7f72fe5468141c28b72579d4bd097c83af14d8f302be8f3a4e1fb", "code": "tunemill 0.1.0 torch 2.13.0+cpu diffusers 0.42.1 transformers 5.24.0", "noise": true}, "measures": {"rms_dbfs": -23.28, "peak_dbfs": 1.01, "spectral_flatness": 0.4225, "loudness_in_lufs": -17.65, "loudness_out_lufs": -19.73, "true_peak_dbtp": -1.0, "gain_db": -2.08, "warnings": ["DC offset of 0.012 of the peak (limit 0.005)", "like noise: spectral flatness 0.422 (limit 0.25)", "like noise: the strongest 5 % of frequencies hold 0.34 of the energy (at least 0.6)", "still playing at its end (-9.3 dB against its mean, limit -12): faded out over 2 s", "3.7 LU below the target of -16 LUFS: its peaks leave no room"]}, "audio": {"key": "golden/audio/hotel_lobby/piano_solo/1b117c4d27e3986447a1f808-fb8eb737f8258e54.flac", "sha256": "fb8eb737f8258e54e3c4eb0a9e15700b54b3fdab14b284e4eda0694783fc2838", "pcm_sha256": "a9a8a9b0d79ebbbec1a70cb497b2b4ddcdbcaa2e938edfa495faab1c2ad58f7e", "bytes": 2402980, "content_type": "audio/flac", "format": "flac", "sample_rate_hz": 48000, "channels": 2, "n_samples": 480000}, "times": {"plan_ms": 221, "encode_ms": 7, "diffuse_ms": 36, "decode_ms": 654, "post_ms": 542}, "batch": {"id": "423e8420e8334b3e96b82e1d9c21716f", "size": 2, "position": 0, "takes": ["1b117c4d27e3986447a1f808", "856a405c4712f8f5b6ee07ee"], "plan_id": "b1e7a67db1c84a5c8b94e93253e0aa4f", "plan_size": 2}, "worker_id": "7f585fdfc743455387e7e3456184d5c2", "gpu": "a100-80gb", "created_at_ms": 1795996032311, "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia"}');
INSERT INTO "rendition" VALUES('075395f90ed64ca8be4646ab920b9761','1525b291314cc98c02d03b00','fe1c817e9c074e52a0eb64ec81e5d40a','a2819be450b94bf890603c9c2c50a3d4','tones/audio/hotel_lobby/acoustic_guitar/1525b291314cc98c02d03b00-d13f1e2781e7f844.mp3','d13f1e2781e7f8447501e290284db013b97bc85417a2745e2e0e75bf93d3a500','ed2341dfa55b0d52d456a3afd1a8f4a14ec2cd23a473b13f607f4e9fae1597ce',403447,10000,5927314790281081637,6198177666432960489,'cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726','','tunemill 0.1.0, numpy 2.4.6, python 3.11.7','a100-80gb',0,-16.0,1795996041108,'{"v": 1, "take_id": "1525b291314cc98c02d03b00", "record_id": "075395f90ed64ca8be4646ab920b9761", "run_id": "fe1c817e9c074e52a0eb64ec81e5d40a", "take": {"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "acoustic_guitar", "axes": {}, "slot": "0001", "title": "Atrium and Sundial", "seed": null, "spec": {"caption": "warm unplugged music for a lobby lounge with deep armchairs, two acoustic guitars, one arpeggiating and one melodic, gentle picking pattern, welcoming and gentle, soft natural reverb, a short bridge in the relative key, no vocals", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 96, "keyscale": "D minor", "timesignature": "4", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 5927314790281081637, "lm_seed": 6198177666432960489}, "effective": {"dit_seed": 5927314790281081637, "lm_seed": 6198177666432960489, "steps": 8, "shift": 3.0, "device": "cpu", "dtype": "float32", "attention": "", "instruction": "", "text_tokens": 0, "extra": {"bpm": 96, "keyscale": "D minor"}}, "plan": null, "fingerprints": {"model": "cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726", "planner": "", "code": "tunemill 0.1.0, numpy 2.4.6, python 3.11.7", "noise": false}, "measures": {"rms_dbfs": -19.05, "peak_dbfs": -6.02, "spectral_flatness": 0.0, "loudness_in_lufs": -18.14, "loudness_out_lufs": -16.0, "true_peak_dbtp": -3.88, "gain_db": 2.135, "warnings": []}, "audio": {"key": "tones/audio/hotel_lobby/acoustic_guitar/1525b291314cc98c02d03b00-d13f1e2781e7f844.mp3", "sha256": "d13f1e2781e7f8447501e290284db013b97bc85417a2745e2e0e75bf93d3a500", "pcm_sha256": "ed2341dfa55b0d52d456a3afd1a8f4a14ec2cd23a473b13f607f4e9fae1597ce", "bytes": 403447, "content_type": "audio/mpeg", "format": "mp3", "sample_rate_hz": 48000, "channels": 2, "n_samples": 480000}, "times": {"plan_ms": 0, "encode_ms": 0, "diffuse_ms": 66, "decode_ms": 0, "post_ms": 1588}, "batch": {"id": "9682c2b4af5e44b6a28f4e648115449f", "size": 3, "position": 1, "takes": ["107f76892c2105f1dd1f462e", "1525b291314cc98c02d03b00", "292a6d37991b8a3d952e2abd"], "plan_id": "", "plan_size": 0}, "worker_id": "a2819be450b94bf890603c9c2c50a3d4", "gpu": "a100-80gb", "created_at_ms": 1795996041108, "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"}');
INSERT INTO "rendition" VALUES('5240ddf79ca44b8faaf8e577712457b1','292a6d37991b8a3d952e2abd','fe1c817e9c074e52a0eb64ec81e5d40a','a2819be450b94bf890603c9c2c50a3d4','tones/audio/hotel_lobby/piano_solo/292a6d37991b8a3d952e2abd-21067c1b7abaff5e.mp3','21067c1b7abaff5ed2fb829ba4dfa2a08138be0bd2a6d3889dfd4704710cb151','a680be9b39995d5683a373189e288b253b6f36ddbe8a642583a1cbdd155e693e',403429,10000,8345249502504950356,3001486450686499669,'cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726','','tunemill 0.1.0, numpy 2.4.6, python 3.11.7','a100-80gb',0,-16.0,1795996041294,'{"v": 1, "take_id": "292a6d37991b8a3d952e2abd", "record_id": "5240ddf79ca44b8faaf8e577712457b1", "run_id": "fe1c817e9c074e52a0eb64ec81e5d40a", "take": {"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {}, "slot": "0002", "title": "Postcard Suitcase", "seed": null, "spec": {"caption": "intimate piano music for a lobby lounge with deep armchairs, concert grand piano with long sustain pedal, gentle rubato and soft dynamics, cosmopolitan and contemplative, a close and breathy recording, simple form and a fading last chord, no other instruments", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 101, "keyscale": "E minor", "timesignature": "4", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 8345249502504950356, "lm_seed": 3001486450686499669}, "effective": {"dit_seed": 8345249502504950356, "lm_seed": 3001486450686499669, "steps": 8, "shift": 3.0, "device": "cpu", "dtype": "float32", "attention": "", "instruction": "", "text_tokens": 0, "extra": {"bpm": 101, "keyscale": "E minor"}}, "plan": null, "fingerprints": {"model": "cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726", "planner": "", "code": "tunemill 0.1.0, numpy 2.4.6, python 3.11.7", "noise": false}, "measures": {"rms_dbfs": -19.94, "peak_dbfs": -6.02, "spectral_flatness": 0.0, "loudness_in_lufs": -18.65, "loudness_out_lufs": -16.0, "true_peak_dbtp": -3.37, "gain_db": 2.648, "warnings": []}, "audio": {"key": "tones/audio/hotel_lobby/piano_solo/292a6d37991b8a3d952e2abd-21067c1b7abaff5e.mp3", "sha256": "21067c1b7abaff5ed2fb829ba4dfa2a08138be0bd2a6d3889dfd4704710cb151", "pcm_sha256": "a680be9b39995d5683a373189e288b253b6f36ddbe8a642583a1cbdd155e693e", "bytes": 403429, "content_type": "audio/mpeg", "format": "mp3", "sample_rate_hz": 48000, "channels": 2, "n_samples": 480000}, "times": {"plan_ms": 0, "encode_ms": 0, "diffuse_ms": 65, "decode_ms": 0, "post_ms": 1773}, "batch": {"id": "9682c2b4af5e44b6a28f4e648115449f", "size": 3, "position": 2, "takes": ["107f76892c2105f1dd1f462e", "1525b291314cc98c02d03b00", "292a6d37991b8a3d952e2abd"], "plan_id": "", "plan_size": 0}, "worker_id": "a2819be450b94bf890603c9c2c50a3d4", "gpu": "a100-80gb", "created_at_ms": 1795996041294, "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"}');
INSERT INTO "rendition" VALUES('201957c431d5477e989e1e68397ae35c','107f76892c2105f1dd1f462e','fe1c817e9c074e52a0eb64ec81e5d40a','a2819be450b94bf890603c9c2c50a3d4','tones/audio/hotel_lobby/piano_solo/107f76892c2105f1dd1f462e-b98b2ace5167a2f7.mp3','b98b2ace5167a2f758afda3c8cd7750733517b0650d73eaef0e05a225717ff64','b8e9f05c83f09ba50163b8236771271f20148801018a1b277b29f8b9fe6e12f4',403411,10000,4573742178231492071,3447310139221984735,'cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726','','tunemill 0.1.0, numpy 2.4.6, python 3.11.7','a100-80gb',0,-16.0,1795996042542,'{"v": 1, "take_id": "107f76892c2105f1dd1f462e", "record_id": "201957c431d5477e989e1e68397ae35c", "run_id": "fe1c817e9c074e52a0eb64ec81e5d40a", "take": {"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {}, "slot": "0001", "title": "Foyer Album", "seed": null, "spec": {"caption": "airy piano miniature: close-miked parlour piano with a light ostinato, simple singing melody over broken chords, tender, natural hall reverb, as background for an upscale hotel lobby, even touch without loud accents, instrumental", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 76, "keyscale": "D major", "timesignature": "3", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 4573742178231492071, "lm_seed": 3447310139221984735}, "effective": {"dit_seed": 4573742178231492071, "lm_seed": 3447310139221984735, "steps": 8, "shift": 3.0, "device": "cpu", "dtype": "float32", "attention": "", "instruction": "", "text_tokens": 0, "extra": {"bpm": 76, "keyscale": "D major"}}, "plan": null, "fingerprints": {"model": "cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726", "planner": "", "code": "tunemill 0.1.0, numpy 2.4.6, python 3.11.7", "noise": false}, "measures": {"rms_dbfs": -18.68, "peak_dbfs": -6.02, "spectral_flatness": 0.0, "loudness_in_lufs": -17.61, "loudness_out_lufs": -16.0, "true_peak_dbtp": -4.41, "gain_db": 1.612, "warnings": []}, "audio": {"key": "tones/audio/hotel_lobby/piano_solo/107f76892c2105f1dd1f462e-b98b2ace5167a2f7.mp3", "sha256": "b98b2ace5167a2f758afda3c8cd7750733517b0650d73eaef0e05a225717ff64", "pcm_sha256": "b8e9f05c83f09ba50163b8236771271f20148801018a1b277b29f8b9fe6e12f4", "bytes": 403411, "content_type": "audio/mpeg", "format": "mp3", "sample_rate_hz": 48000, "channels": 2, "n_samples": 480000}, "times": {"plan_ms": 0, "encode_ms": 0, "diffuse_ms": 66, "decode_ms": 0, "post_ms": 1478}, "batch": {"id": "9682c2b4af5e44b6a28f4e648115449f", "size": 3, "position": 0, "takes": ["107f76892c2105f1dd1f462e", "1525b291314cc98c02d03b00", "292a6d37991b8a3d952e2abd"], "plan_id": "", "plan_size": 0}, "worker_id": "a2819be450b94bf890603c9c2c50a3d4", "gpu": "a100-80gb", "created_at_ms": 1795996042542, "digital_source_type": "http://cv.iptc.org/newscodes/digitalsourcetype/algorithmicMedia"}');
CREATE TABLE rental (
	rental_id VARCHAR NOT NULL, 
	provider VARCHAR NOT NULL, 
	external_id VARCHAR NOT NULL, 
	gpu VARCHAR NOT NULL, 
	gpu_count INTEGER NOT NULL, 
	market VARCHAR NOT NULL, 
	region VARCHAR NOT NULL, 
	account VARCHAR NOT NULL, 
	run_id VARCHAR, 
	rate_usd_micros_per_h BIGINT, 
	billed_start_ms BIGINT, 
	billed_end_ms BIGINT, 
	settled BOOLEAN NOT NULL, tally VARCHAR DEFAULT '' NOT NULL, posted_ms BIGINT DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_rental PRIMARY KEY (rental_id), 
	CONSTRAINT ck_rental_known_market CHECK (market in ('on_demand', 'spot'))
);
INSERT INTO "rental" VALUES('runpod/pod-golden','runpod','pod-golden','a100-80gb',0,'on_demand','','',NULL,NULL,NULL,NULL,1,'',0);
CREATE TABLE run (
	run_id VARCHAR NOT NULL, 
	catalog VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	state VARCHAR NOT NULL, 
	started_at_ms BIGINT NOT NULL, 
	finished_at_ms BIGINT, 
	max_usd_micros BIGINT, 
	take_usd_micros BIGINT, wish VARCHAR DEFAULT '' NOT NULL, 
	CONSTRAINT pk_run PRIMARY KEY (run_id), 
	CONSTRAINT ck_run_known_state CHECK (state in ('active', 'finished', 'cancelled'))
);
INSERT INTO "run" VALUES('a42e83ff144b41228697fbe85917fe18','golden','tiny-random','finished',1795996013646,1795996032431,NULL,4973,'');
INSERT INTO "run" VALUES('fe1c817e9c074e52a0eb64ec81e5d40a','tones','tone','finished',1795996035612,1795996042786,NULL,4973,'');
CREATE TABLE "span" (
	worker_id VARCHAR NOT NULL, 
	start_ms BIGINT NOT NULL, 
	end_ms BIGINT NOT NULL, 
	state VARCHAR NOT NULL, 
	batch_id VARCHAR NOT NULL, 
	cause VARCHAR NOT NULL, 
	CONSTRAINT pk_span PRIMARY KEY (worker_id, start_ms), 
	CONSTRAINT ck_span_known_state CHECK (state in ('startup', 'plan', 'render', 'idle', 'post', 'teardown'))
);
INSERT INTO "span" VALUES('7f585fdfc743455387e7e3456184d5c2',1795996014276,1795996029673,'startup','','');
INSERT INTO "span" VALUES('7f585fdfc743455387e7e3456184d5c2',1795996029673,1795996029907,'idle','','no work');
INSERT INTO "span" VALUES('7f585fdfc743455387e7e3456184d5c2',1795996029907,1795996030367,'plan','b1e7a67db1c84a5c8b94e93253e0aa4f','');
INSERT INTO "span" VALUES('7f585fdfc743455387e7e3456184d5c2',1795996030367,1795996031768,'render','423e8420e8334b3e96b82e1d9c21716f','');
INSERT INTO "span" VALUES('7f585fdfc743455387e7e3456184d5c2',1795996031768,1795996032445,'idle','','no work');
INSERT INTO "span" VALUES('7f585fdfc743455387e7e3456184d5c2',1795996032445,1795996032911,'post','','');
INSERT INTO "span" VALUES('7f585fdfc743455387e7e3456184d5c2',1795996032911,1795996032963,'teardown','','');
INSERT INTO "span" VALUES('a2819be450b94bf890603c9c2c50a3d4',1795996036230,1795996039182,'startup','','');
INSERT INTO "span" VALUES('a2819be450b94bf890603c9c2c50a3d4',1795996039182,1795996039312,'idle','','no work');
INSERT INTO "span" VALUES('a2819be450b94bf890603c9c2c50a3d4',1795996039312,1795996039519,'render','9682c2b4af5e44b6a28f4e648115449f','');
INSERT INTO "span" VALUES('a2819be450b94bf890603c9c2c50a3d4',1795996039519,1795996042804,'idle','','no work');
INSERT INTO "span" VALUES('a2819be450b94bf890603c9c2c50a3d4',1795996042804,1795996043454,'post','','');
INSERT INTO "span" VALUES('a2819be450b94bf890603c9c2c50a3d4',1795996043454,1795996043509,'teardown','','');
CREATE TABLE standing (
	"key" VARCHAR NOT NULL, 
	posting_id BIGINT NOT NULL, 
	rental_id VARCHAR, 
	digest VARCHAR NOT NULL, 
	method VARCHAR NOT NULL, 
	is_priced BOOLEAN NOT NULL, 
	CONSTRAINT pk_standing PRIMARY KEY ("key")
);
INSERT INTO "standing" VALUES('estimate:runpod/pod-golden:2026-11',1,'runpod/pod-golden','90c59580db5633fd0726c476c9a40ea915ada610f2e3d460acef4d8a14a7c5ed','busy-ms.v1 UTC',1);
INSERT INTO "standing" VALUES('work:runpod/pod-golden:2026-11',2,'runpod/pod-golden','c946e8c103f2a8c13271ba0ad3aa7772cea1f581f8f065efcb34f6b75676de9d','busy-ms.v1 UTC',1);
CREATE TABLE take (
	take_id VARCHAR NOT NULL, 
	run_id VARCHAR NOT NULL, 
	catalog VARCHAR NOT NULL, 
	zone VARCHAR NOT NULL, 
	genre VARCHAR NOT NULL, 
	track_key VARCHAR NOT NULL, 
	number INTEGER NOT NULL, 
	title VARCHAR NOT NULL, 
	model VARCHAR NOT NULL, 
	queue VARCHAR NOT NULL, 
	bucket VARCHAR NOT NULL, 
	duration_ms BIGINT NOT NULL, 
	message JSON NOT NULL, 
	state VARCHAR NOT NULL, 
	current BOOLEAN NOT NULL, 
	alone BOOLEAN NOT NULL, 
	sent_at_ms BIGINT, 
	held_by VARCHAR, 
	held_at_ms BIGINT, 
	tries INTEGER NOT NULL, 
	losses INTEGER NOT NULL, rendition_id VARCHAR, 
	CONSTRAINT pk_take PRIMARY KEY (take_id), 
	CONSTRAINT ck_take_known_state CHECK (state in ('waiting', 'sent', 'accepted', 'rejected', 'failed', 'cancelled')), 
	CONSTRAINT fk_take_run_id_run FOREIGN KEY(run_id) REFERENCES run (run_id)
);
INSERT INTO "take" VALUES('856a405c4712f8f5b6ee07ee','a42e83ff144b41228697fbe85917fe18','golden','hotel_lobby','piano_solo','golden/hotel_lobby/piano_solo/season=winter/0001',1,'Revolving Album','tiny-random','render.tiny-random.4g','tiny-random acestep-5Hz-lm-1.7B 008 03.0000 0010',10000,'{"track": {"catalog": "golden", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {"season": "winter"}, "slot": "0001", "title": "Revolving Album", "seed": null, "spec": {"caption": "slow solo piano piece, close-miked parlour piano with a light ostinato, hushed and hopeful, gentle tape warmth, quiet background for check-in at a grand city hotel, one clear theme that returns slightly changed, instrumental", "lyrics": "[Instrumental]", "language": "unknown", "bpm": null, "keyscale": null, "timesignature": "3", "duration_s": 10, "bounds": {"bpm": [66, 71], "keyscales": ["A minor", "B minor", "C major", "D major", "Db major", "E minor", "F major", "G major"], "timesignatures": [], "duration_s": null, "duration_step_s": 1}, "model": "tiny-random", "diffusion": {"steps": 8, "shift": 3.0}, "planner": {"model": "acestep-5Hz-lm-1.7B", "cfg_scale": 2.0, "temperature": 0.85, "top_p": 0.9, "top_k": 0, "negative_prompt": "harsh distortion, sudden drops, aggressive drums, screaming leads, lead vocals", "think_fields": ["bpm", "duration", "keyscale", "timesignature"], "assistant_turn": "open", "metadata": "fill", "open": ["bpm", "keyscale"], "reuse": true}, "master": {"format": "flac", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 452676895167357444, "lm_seed": 1576162822598198791}','accepted',1,0,1795996013852,NULL,NULL,0,0,'6b4a86fc89b74e9ea1f4b7d3d71e0244');
INSERT INTO "take" VALUES('1b117c4d27e3986447a1f808','a42e83ff144b41228697fbe85917fe18','golden','hotel_lobby','piano_solo','golden/hotel_lobby/piano_solo/season=winter/0001',2,'Revolving Album','tiny-random','render.tiny-random.4g','tiny-random acestep-5Hz-lm-1.7B 008 03.0000 0010',10000,'{"track": {"catalog": "golden", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {"season": "winter"}, "slot": "0001", "title": "Revolving Album", "seed": null, "spec": {"caption": "slow solo piano piece, close-miked parlour piano with a light ostinato, hushed and hopeful, gentle tape warmth, quiet background for check-in at a grand city hotel, one clear theme that returns slightly changed, instrumental", "lyrics": "[Instrumental]", "language": "unknown", "bpm": null, "keyscale": null, "timesignature": "3", "duration_s": 10, "bounds": {"bpm": [66, 71], "keyscales": ["A minor", "B minor", "C major", "D major", "Db major", "E minor", "F major", "G major"], "timesignatures": [], "duration_s": null, "duration_step_s": 1}, "model": "tiny-random", "diffusion": {"steps": 8, "shift": 3.0}, "planner": {"model": "acestep-5Hz-lm-1.7B", "cfg_scale": 2.0, "temperature": 0.85, "top_p": 0.9, "top_k": 0, "negative_prompt": "harsh distortion, sudden drops, aggressive drums, screaming leads, lead vocals", "think_fields": ["bpm", "duration", "keyscale", "timesignature"], "assistant_turn": "open", "metadata": "fill", "open": ["bpm", "keyscale"], "reuse": true}, "master": {"format": "flac", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 2, "dit_seed": 7835349461777223028, "lm_seed": 1576162822598198791}','accepted',1,0,1795996013852,NULL,NULL,0,0,'fae25f33dfc54b968b8db1b396ce9cbf');
INSERT INTO "take" VALUES('107f76892c2105f1dd1f462e','fe1c817e9c074e52a0eb64ec81e5d40a','tones','hotel_lobby','piano_solo','tones/hotel_lobby/piano_solo/0001',1,'Foyer Album','tone','render.tone.4g','tone - 008 03.0000 0010',10000,'{"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {}, "slot": "0001", "title": "Foyer Album", "seed": null, "spec": {"caption": "airy piano miniature: close-miked parlour piano with a light ostinato, simple singing melody over broken chords, tender, natural hall reverb, as background for an upscale hotel lobby, even touch without loud accents, instrumental", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 76, "keyscale": "D major", "timesignature": "3", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 4573742178231492071, "lm_seed": 3447310139221984735}','accepted',1,0,1795996035793,NULL,NULL,0,0,'201957c431d5477e989e1e68397ae35c');
INSERT INTO "take" VALUES('292a6d37991b8a3d952e2abd','fe1c817e9c074e52a0eb64ec81e5d40a','tones','hotel_lobby','piano_solo','tones/hotel_lobby/piano_solo/0002',1,'Postcard Suitcase','tone','render.tone.4g','tone - 008 03.0000 0010',10000,'{"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "piano_solo", "axes": {}, "slot": "0002", "title": "Postcard Suitcase", "seed": null, "spec": {"caption": "intimate piano music for a lobby lounge with deep armchairs, concert grand piano with long sustain pedal, gentle rubato and soft dynamics, cosmopolitan and contemplative, a close and breathy recording, simple form and a fading last chord, no other instruments", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 101, "keyscale": "E minor", "timesignature": "4", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 8345249502504950356, "lm_seed": 3001486450686499669}','accepted',1,0,1795996035793,NULL,NULL,0,0,'5240ddf79ca44b8faaf8e577712457b1');
INSERT INTO "take" VALUES('1525b291314cc98c02d03b00','fe1c817e9c074e52a0eb64ec81e5d40a','tones','hotel_lobby','acoustic_guitar','tones/hotel_lobby/acoustic_guitar/0001',1,'Atrium and Sundial','tone','render.tone.4g','tone - 008 03.0000 0010',10000,'{"track": {"catalog": "tones", "zone": "hotel_lobby", "genre": "acoustic_guitar", "axes": {}, "slot": "0001", "title": "Atrium and Sundial", "seed": null, "spec": {"caption": "warm unplugged music for a lobby lounge with deep armchairs, two acoustic guitars, one arpeggiating and one melodic, gentle picking pattern, welcoming and gentle, soft natural reverb, a short bridge in the relative key, no vocals", "lyrics": "[Instrumental]", "language": "unknown", "bpm": 96, "keyscale": "D minor", "timesignature": "4", "duration_s": 10, "bounds": null, "model": "tone", "diffusion": {"steps": 8, "shift": 3.0}, "planner": null, "master": {"format": "mp3", "bit_depth": 24, "loudness_lufs": -16.0, "peak_dbtp": -1.0}}}, "number": 1, "dit_seed": 5927314790281081637, "lm_seed": 6198177666432960489}','accepted',1,0,1795996035793,NULL,NULL,0,0,'075395f90ed64ca8be4646ab920b9761');
CREATE TABLE tally (
	worker_id VARCHAR NOT NULL, 
	period VARCHAR NOT NULL, 
	category VARCHAR NOT NULL, 
	catalog VARCHAR NOT NULL, 
	zone VARCHAR NOT NULL, 
	genre VARCHAR NOT NULL, 
	run_id VARCHAR NOT NULL, 
	ms BIGINT NOT NULL, 
	tracks BIGINT NOT NULL, 
	attempts BIGINT NOT NULL, 
	audio_ms BIGINT NOT NULL, 
	CONSTRAINT pk_tally PRIMARY KEY (worker_id, period, category, catalog, zone, genre, run_id)
);
CREATE TABLE verdict (
	verdict_id INTEGER NOT NULL, 
	record_id VARCHAR NOT NULL, 
	take_id VARCHAR NOT NULL, 
	outcome VARCHAR NOT NULL, 
	reason VARCHAR NOT NULL, 
	at_ms BIGINT NOT NULL, 
	CONSTRAINT pk_verdict PRIMARY KEY (verdict_id), 
	CONSTRAINT ck_verdict_known_outcome CHECK (outcome in ('accepted', 'rejected'))
);
INSERT INTO "verdict" VALUES(1,'201957c431d5477e989e1e68397ae35c','107f76892c2105f1dd1f462e','rejected','dull',1795996046540);
CREATE TABLE worker (
	worker_id VARCHAR NOT NULL, 
	host VARCHAR NOT NULL, 
	gpu VARCHAR NOT NULL, 
	vram_gib FLOAT NOT NULL, 
	model VARCHAR NOT NULL, 
	model_fingerprint VARCHAR NOT NULL, 
	code VARCHAR NOT NULL, 
	noise BOOLEAN NOT NULL, 
	batch_limit INTEGER NOT NULL, 
	batch_limit_reason VARCHAR NOT NULL, 
	started_at_ms BIGINT NOT NULL, 
	last_seen_ms BIGINT NOT NULL, 
	ended_at_ms BIGINT, 
	end_reason VARCHAR, 
	price_sku VARCHAR, 
	price_source VARCHAR, 
	rate_usd_micros_per_h BIGINT, plan_limit INTEGER DEFAULT 0 NOT NULL, holds_max INTEGER DEFAULT 0 NOT NULL, rss_mib FLOAT, device_mib FLOAT, growth_mib_per_100_takes FLOAT, heard_at_ms BIGINT DEFAULT 0 NOT NULL, clock_ahead_ms BIGINT DEFAULT 0 NOT NULL, last_beat BIGINT DEFAULT 0 NOT NULL, rental_id VARCHAR DEFAULT '' NOT NULL, lane VARCHAR DEFAULT '' NOT NULL, tally_spans_ms BIGINT DEFAULT 0 NOT NULL, tally_attempts_ms BIGINT DEFAULT 0 NOT NULL, tally_reached_ms BIGINT DEFAULT 0 NOT NULL, 
	CONSTRAINT pk_worker PRIMARY KEY (worker_id)
);
INSERT INTO "worker" VALUES('7f585fdfc743455387e7e3456184d5c2','studio-1','a100-80gb',2.35405845642089843754e+01,'tiny-random','84c4cf41de6595f4f749ba57dfefed174e3879c69e7a6292fb5ec45a1010a29f','tunemill 0.1.0 torch 2.13.0+cpu diffusers 0.42.1 transformers 5.24.0',1,8,'random tiny weights fit anywhere',1795996014276,1795996032964,1795996032964,'told to stop','a100-80gb','price book 2026-11-20',1790000,16,36,648.4921875,0.0,NULL,1795996033118,0,7,'runpod/pod-golden','',0,0,0);
INSERT INTO "worker" VALUES('a2819be450b94bf890603c9c2c50a3d4','studio-1','a100-80gb',0.0,'tone','cbb89a66acc52cc408b59867381ac0c247154ade10666c0c2ec29b647f52e726','tunemill 0.1.0, numpy 2.4.6, python 3.11.7',0,8,'tone engine, needs no GPU',1795996036230,1795996043511,1795996043511,'told to stop','a100-80gb','price book 2026-11-20',1790000,0,20,53.01953125,0.0,NULL,1795996043673,0,5,'runpod/pod-golden','',0,0,0);
CREATE TABLE writer (
	id INTEGER NOT NULL, 
	epoch BIGINT NOT NULL, 
	holder VARCHAR NOT NULL, 
	since_ms BIGINT NOT NULL, 
	CONSTRAINT pk_writer PRIMARY KEY (id)
);
INSERT INTO "writer" VALUES(1,2,'run (pid 21581 on studio-1)',1795996035606);
CREATE INDEX ix_attempt_run_id_at_ms ON attempt (run_id, at_ms);
CREATE INDEX ix_attempt_take_id ON attempt (take_id);
CREATE INDEX ix_run_catalog ON run (catalog);
CREATE INDEX ix_take_catalog_track_key_number ON take (catalog, track_key, number);
CREATE INDEX ix_take_run_id_state_queue_bucket_take_id ON take (run_id, state, queue, bucket, take_id);
CREATE INDEX ix_take_held_by ON take (held_by);
CREATE INDEX ix_rendition_run_id ON rendition (run_id);
CREATE INDEX ix_rendition_take_id ON rendition (take_id);
CREATE INDEX ix_cost_monthly_applies_to ON cost_monthly (applies_to);
CREATE INDEX ix_cost_monthly_run_id ON cost_monthly (run_id);
CREATE INDEX ix_invoice_provider_number ON invoice (provider, number);
CREATE INDEX ix_posting_key ON posting ("key");
CREATE INDEX ix_posting_period_rental_id ON posting (period, rental_id);
CREATE INDEX ix_rental_settled ON rental (settled);
CREATE INDEX ix_standing_rental_id ON standing (rental_id);
CREATE INDEX ix_verdict_record_id ON verdict (record_id);
CREATE INDEX ix_cost_entry_period_entry_id ON cost_entry (period, entry_id);
CREATE INDEX ix_cost_entry_posting_id ON cost_entry (posting_id);
CREATE INDEX ix_invoice_line_invoice_id ON invoice_line (invoice_id);
CREATE INDEX ix_invoice_line_provider_external_id ON invoice_line (provider, external_id);
CREATE INDEX ix_worker_rental_id ON worker (rental_id);
CREATE INDEX ix_cost_monthly_period ON cost_monthly (period);
CREATE INDEX ix_attempt_worker_id_at_ms ON attempt (worker_id, at_ms);
CREATE TRIGGER attempt_no_update before update on attempt begin select raise(abort, 'attempt is append-only'); end;
CREATE TRIGGER attempt_no_delete before delete on attempt begin select raise(abort, 'attempt is append-only'); end;
CREATE TRIGGER loss_no_update before update on loss begin select raise(abort, 'loss is append-only'); end;
CREATE TRIGGER loss_no_delete before delete on loss begin select raise(abort, 'loss is append-only'); end;
CREATE TRIGGER rendition_no_update before update on rendition begin select raise(abort, 'rendition is append-only'); end;
CREATE TRIGGER rendition_no_delete before delete on rendition begin select raise(abort, 'rendition is append-only'); end;
CREATE TRIGGER span_no_update before update on span begin select raise(abort, 'span is append-only'); end;
CREATE TRIGGER span_no_delete before delete on span begin select raise(abort, 'span is append-only'); end;
CREATE TRIGGER verdict_no_update before update on verdict begin select raise(abort, 'verdict is append-only'); end;
CREATE TRIGGER verdict_no_delete before delete on verdict begin select raise(abort, 'verdict is append-only'); end;
CREATE TRIGGER invoice_no_update before update on invoice begin select raise(abort, 'invoice is append-only'); end;
CREATE TRIGGER invoice_no_delete before delete on invoice begin select raise(abort, 'invoice is append-only'); end;
CREATE TRIGGER invoice_line_no_update before update on invoice_line begin select raise(abort, 'invoice_line is append-only'); end;
CREATE TRIGGER invoice_line_no_delete before delete on invoice_line begin select raise(abort, 'invoice_line is append-only'); end;
CREATE TRIGGER posting_no_update before update on posting begin select raise(abort, 'posting is append-only'); end;
CREATE TRIGGER posting_no_delete before delete on posting begin select raise(abort, 'posting is append-only'); end;
CREATE TRIGGER cost_entry_no_update before update on cost_entry begin select raise(abort, 'cost_entry is append-only'); end;
CREATE TRIGGER cost_entry_no_delete before delete on cost_entry begin select raise(abort, 'cost_entry is append-only'); end;
CREATE TRIGGER closed_period_no_update before update on closed_period begin select raise(abort, 'closed_period is append-only'); end;
CREATE TRIGGER closed_period_no_delete before delete on closed_period begin select raise(abort, 'closed_period is append-only'); end;
CREATE TRIGGER budget_no_update before update on budget begin select raise(abort, 'budget is append-only'); end;
CREATE TRIGGER budget_no_delete before delete on budget begin select raise(abort, 'budget is append-only'); end;
CREATE TRIGGER posting_month_is_open before insert on posting when exists (select 1 from closed_period where period = new.period) begin select raise(abort, 'the month is closed'); end;
COMMIT;
