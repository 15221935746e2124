# The paper's models and their scores as rules of GNU make; start them with launch/paper.sh in a folder with corpora.
# A finished step is skipped; remove its output to repeat it. The command line can set these variables:
CONFIGS := configs
SIZE := large
TRAIN := sfjax train# or 'sbatch --wait launch/slurm_v100.sh'
FLAGS :=# flags of every training
DURATION_MODEL :=# further flags of the duration model
MIXTURES_train := 20000# mixtures to train a phase net
MIXTURES_valid := 200
HOURS := 10# hours of data/phones_10.parquet
HOURS_dns := 100# hours of data/dns2020_100.parquet, drawn from the 500 that the synthesizer makes
ITEMS := 50# sentences of the listening test
EACH := 5# sentences of one listener
TRANSCRIBER := pocketsphinx# the paper: hubert:FOLDER
ENCODER := resemblyzer# or wavlm:FOLDER; the paper: a larger WavLM with another head

SHELL := bash
.DELETE_ON_ERROR:
.SECONDARY:
comma := ,

# Corpora and lists

prepare = sfjax prepare $(1) corpora/$(2) $@
librispeech = $(call prepare,librispeech,LibriSpeech) --sets

data/librilight.parquet: ; $(call prepare,librilight,LibriLight)
data/librispeech_960.parquet: ; $(librispeech) train-clean-100 train-clean-360 train-other-500 dev-clean
data/librispeech_360.parquet: ; $(librispeech) train-clean-360 dev-clean
data/librispeech_100.parquet: ; $(librispeech) train-clean-100 dev-clean
data/librispeech_test.parquet: ; $(librispeech) test-clean
data/voicebank.parquet: ; $(call prepare,voicebank,VoiceBank)
data/wsj0chime3.parquet: ; $(call prepare,wsj0chime3,WSJ0-CHiME3)
data/dns2020.parquet: ; $(call prepare,dns2020,DNS2020) --sets train
data/wham.parquet: ; $(call prepare,wham,WHAM)
data/%mix.parquet: ; $(call prepare,librimix,LibriMix) --sets Libri$*Mix/test/mix_clean
data/%mix_noise.parquet: ; $(call prepare,librimix,LibriMix) --sets Libri$*Mix/test/mix_both

align = sfjax prepare align $| corpora/alignments $@
data/phones.parquet: | data/librispeech_960.parquet ; $(align)
data/phones_100.parquet: | data/librispeech_100.parquet ; $(align)
data/phones_test.parquet: | data/librispeech_test.parquet ; $(align)
subset = sfjax prepare subset $| $@ --hours
data/phones_10.parquet: | data/phones_100.parquet ; $(subset) $(HOURS)
data/dns2020_100.parquet: | data/dns2020.parquet ; $(subset) $(HOURS_dns)
data/cross.parquet data/continued.parquet data/edited.parquet: data/%.parquet: | data/phones_test.parquet
	sfjax prepare protocol $| $@ --kind $*

# Models: rows of configs/paper.py, the duration model and the vocoder. NAME/trained exists when all updates are done

train = $(TRAIN) --config=$(CONFIGS)/$(1)$(SIZE) --workdir=$(@D) $(FLAGS) $(2) && touch $@

runs/%/trained: ; $(call train,paper.py:$*$(comma))
needs := $(shell python -c 'from sfjax.configs import paper; print(*paper.needs())')
$(foreach need,$(needs),$(eval runs/$(subst :,/trained: | ,$(need))))
define exported
runs/%/$(1)k: | runs/%/trained
	sfjax export --workdir $$(@D) --step $(1)000 -o $$@
endef
$(foreach step,150 300 450 600,$(eval $(call exported,$(step))))
runs/durations/trained: | data/phones.parquet ; $(call train,durations.py:,--config.data.train=$| $(DURATION_MODEL))
runs/vocoder/trained: | data/librispeech_360.parquet ; $(call train,vocode.py:,--config.data.train=$|)

mixtures = sfjax prepare mixtures $(firstword $|) $@ --split $* --count $(MIXTURES_$*)
data/mixtures/%.parquet: | data/librispeech_360.parquet ; $(mixtures)
data/mixtures_noise/%.parquet: | data/librispeech_360.parquet data/wham.parquet ; $(mixtures) --noise data/wham.parquet
cache_mels = sfjax cache-mels --model $(@D:data/%=runs/%) --manifest $(lastword $|) -o $(@D)
data/separate_2/%.parquet: | runs/separate_2/trained data/mixtures/%.parquet ; $(cache_mels)
data/separate_2_noise/%.parquet: | runs/separate_2_noise/trained data/mixtures_noise/%.parquet ; $(cache_mels)

# Reports, named as `sfjax evaluate --table` reads them

define sound_reports
evaluate_$(1) = sfjax evaluate --manifest data/$(1).parquet --split test -o $$@ $(2)
runs/noisy/$(1).json: | data/$(1).parquet ; $$(evaluate_$(1)) --system noisy
runs/clean/$(1).json: | data/$(1).parquet ; $$(evaluate_$(1)) --system clean
runs/bound/$(1).json: | data/$(1).parquet ; $$(evaluate_$(1)) --system bound
runs/phase_%/$(1).json: | runs/phase_%/trained data/$(1).parquet ; $$(evaluate_$(1)) --model runs/$$* --phase $$(@D)
runs/%/$(1).json: | runs/%/trained data/$(1).parquet ; $$(evaluate_$(1)) --model $$(@D)
endef
$(foreach test,wsj0chime3 2mix 2mix_noise 3mix 3mix_noise,$(eval $(call sound_reports,$(test))))
$(eval $(call sound_reports,voicebank,--by noise_kind snr))

define speech_reports
runs/truth/$(1)/spoken: | data/$(1).parquet
	sfjax speak-list data/$(1).parquet -o $$(@D) --system truth && touch $$@
runs/%/$(1)/spoken: | runs/%/trained runs/durations/trained runs/vocoder/trained data/$(1).parquet
	sfjax speak-list data/$(1).parquet -o $$(@D) --model runs/$$* --duration-model runs/durations --vocoder runs/vocoder && touch $$@
runs/%/$(1).json: | runs/%/$(1)/spoken
	sfjax wer runs/$$*/$(1)/full --text data/$(1).parquet --transcriber $(TRANSCRIBER) -o $$@
runs/%/$(1)_sim_o.json: | runs/%/$(1)/spoken
	sfjax similarity --reference runs/$$*/$(1)/prompt --estimate runs/$$*/$(1)/generated --encoder $(ENCODER) -o $$@
runs/%/$(1)_sim_r.json: | runs/%/$(1)/spoken
	sfjax similarity --reference runs/$$*/$(1)/vocoded --estimate runs/$$*/$(1)/generated --encoder $(ENCODER) -o $$@
endef
$(foreach test,cross continued edited,$(eval $(call speech_reports,$(test))))

# Goals: the reports of table1, table2 … (table11 also makes the page of its listening test), and figure3.png

reports := $(shell python -c 'from sfjax.evaluation import paper_tables; print(*paper_tables.reports())')
$(foreach report,$(reports),$(eval table$(subst :,: | runs/,$(report))))
rated := truth speak_32_lora
table11: | mos/index.html
mos/index.html: | $(rated:%=runs/%/cross/spoken)
	sfjax mos make $(foreach row,$(rated),$(row)=runs/$(row)/cross/full) -o $(@D) --items $(ITEMS) --each $(EACH)
shown := $(shell python -c 'from sfjax.evaluation import paper_figures; print(*paper_figures.reports())')
figure3: | figure3.png
figure3.png: | $(shown:%=runs/%) ; sfjax evaluate --figure 3 --runs runs -o $@
