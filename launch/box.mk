# Models like those of this package, at size box, as rules of GNU make; start them with launch/box.sh.
# Hours are estimates for two CPU cores (AMD EPYC). A finished step is skipped; remove its output to repeat it.
TRAIN := sfjax train
FLAGS :=# flags of every training, as in FLAGS=--config.optim.updates=3
ROOMS := 500# simulated rooms, in addition to the measured ones
LIST := 20# degraded recordings of each kind in data/degraded.parquet
SPEECH := ls100,so762,kathleen
MORE := picovoice,asterisk,kerstin,nathalie,arabiccmd,precise
NOISE := esc10,speech_commands_noise
MORE_NOISE := moodist,blanket,moh,arabicnoise

SHELL := bash
.DELETE_ON_ERROR:
.SECONDARY:
.PHONY: all base enhance separate extract speak vocoder
all: base enhance separate extract speak vocoder
base enhance separate extract speak vocoder: %: weights/%/config.json
comma := ,

# Manifests, minutes each. --shards copies the sound as 16-bit FLAC, which loads ten times as fast as Opus

list = sfjax prepare jsonl $(DATA)/$(1)manifest.jsonl $@ --shards --where $(2)
data/speech.parquet: ; $(call list,,set=$(SPEECH))
data/more_speech.parquet: ; $(call list,more/,set=$(MORE))
data/more_clean.parquet: ; $(call list,more/,set=$(MORE) 'dr>=35')
data/ls100.parquet: ; $(call list,,set=ls100)
data/so762.parquet: ; $(call list,,set=so762)
data/some_noise.parquet: ; $(call list,,set=$(NOISE))
data/more_noise.parquet: ; $(call list,more/,set=$(MORE_NOISE))
data/noise.parquet: data/some_noise.parquet data/more_noise.parquet ; sfjax prepare merge $^ $@
data/measured_rooms.parquet: ; $(call list,more/,set=rir-iosr$(comma)rir-openair$(comma)rir-misc) --min-seconds 0.05
data/made_rooms.parquet: ; sfjax prepare rooms $@ --count $(ROOMS)
data/rooms.parquet: data/measured_rooms.parquet data/made_rooms.parquet ; sfjax prepare merge $^ $@
data/phones.parquet: data/speech.parquet ; sfjax prepare align $< $(DATA)/align.jsonl.xz $@
data/mixtures.parquet: data/ls100.parquet ; sfjax prepare mixtures $< $@ --split valid --count 50
data/extract.parquet: data/ls100.parquet ; sfjax prepare mixtures $< $@ --split valid --count 50 --enrolment
data/degraded.parquet: data/ls100.parquet data/noise.parquet data/rooms.parquet
	sfjax prepare degraded $< $@ --noise data/noise.parquet --rooms data/rooms.parquet --count $(LIST) --split valid

# Trainings: NAME/trained exists when all updates are done

train = $(TRAIN) --config=$(ROOT)/configs/$(1).py:box --workdir=$(@D) $(2) $(FLAGS) && touch $@
from_base = --config.init_from=runs/base

# 5 hours
runs/base/trained: data/speech.parquet data/more_speech.parquet
	$(call train,pretrain,--config.data.train=data/speech.parquet$(comma)data/more_speech.parquet)
# 3 hours
runs/enhance/trained: runs/base/trained data/speech.parquet data/more_clean.parquet data/ls100.parquet data/noise.parquet \
    data/rooms.parquet
	$(call train,restore,$(from_base) --config.data.train=data/speech.parquet$(comma)data/more_clean.parquet \
	    --config.data.valid=data/ls100.parquet --config.mix.noise=data/noise.parquet \
	    --config.degrade.rooms=data/rooms.parquet)
# 5 hours; sets of many speakers, since a mixture draws its speakers row by row from one set
runs/separate/trained: runs/base/trained data/ls100.parquet data/so762.parquet
	$(call train,separate,$(from_base) --config.data.train=data/ls100.parquet:7$(comma)data/so762.parquet \
	    --config.data.valid=data/ls100.parquet)
# 3 hours
runs/extract/trained: runs/separate/trained data/ls100.parquet data/so762.parquet data/noise.parquet
	$(call train,extract,--config.init_from=runs/separate --config.data.train=data/ls100.parquet:7$(comma)data/so762.parquet \
	    --config.data.valid=data/ls100.parquet --config.mixture.noise=data/noise.parquet --config.mixture.probability=0.5)
# 4 hours
runs/speak/trained: runs/base/trained data/phones.parquet
	$(call train,speak,$(from_base) --config.data.train=data/phones.parquet)
# 10 minutes
runs/durations/trained: data/phones.parquet ; $(call train,durations,--config.data.train=$<)
# 1 hour
runs/vocoder/trained: data/speech.parquet data/more_clean.parquet
	$(call train,vocode,--config.data.train=data/speech.parquet$(comma)data/more_clean.parquet)

# Models to publish, in float16

weights/%/config.json: runs/%/trained
	sfjax export --workdir $(<D) -o $(@D) --dtype float16 $(if $(wildcard $(ROOT)/sfjax/weights/$*.md),--notes $(ROOT)/sfjax/weights/$*.md)
weights/speak/config.json: weights/durations/config.json
