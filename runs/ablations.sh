#!/usr/bin/env bash
# The studies of results/PLAN.md in their order, for GPUs. What is finished is not run again.
#
#   DATA=FOLDER WORKERS=20 runs/ablations.sh        (make ablations is the same)
#
# DATA      folder with the files of the data sets; unset: the hub
# WORKERS   runs at the same time, about ten a GPU of 80 GB; default 1
# RUN       the Python that runs; default .venv/bin/python
set -euo pipefail
cd "$(dirname "$0")/.."
run=${RUN:-.venv/bin/python}
here=("workers=${WORKERS:-1}" ${DATA:+"local_data=$DATA"})

train() { # a run that diverges is a result, and makes the command of its study exit with 1
  local code=0
  "$run" -m experiments.train "${here[@]}" "$@" || code=$?
  [ $code -le 1 ] || exit $code
}
choose_rates() { # STUDY ...
  local study
  for study; do "$run" -m experiments.tuning "${here[@]}" study="$study"; done
}
time_steps() {
  "$run" -m experiments.alone "${here[@]}" "$@"
}

# The learning rate of every method.
train 'studies=[tuning_gsm8k,tuning_variants,tuning_alpaca]'
choose_rates tuning_gsm8k tuning_variants tuning_alpaca

# The studies with these rates, and the seconds of a step of their methods with nothing else on the GPU.
train 'studies=[headline,methods,variants,order,inner_steps,rank,state,outside_layers,partition]'
time_steps 'studies=[headline,methods,variants]'
time_steps study=headline rounds=3

# Models of four depths, trained here, and the learning rates for them.
train study=scratch export=outputs/exports
train study=tuning_scale
choose_rates tuning_scale

train 'studies=[scale,learning_rate,equal_time]'

# The second regime: three epochs of GSM8K, and one of Alpaca.
for data in gsm8k alpaca; do
  train "studies=[tuning_regime_$data,tuning_regime_rules_$data,tuning_regime_ratio_$data]"
  choose_rates "tuning_regime_$data" "tuning_regime_rules_$data" "tuning_regime_ratio_$data"
  train "studies=[regime_$data,regime_rules_$data]"
done
train 'studies=[tuning_regime_clipping,tuning_regime_variants]'
choose_rates tuning_regime_clipping tuning_regime_variants
train 'studies=[regime_clipping,regime_variants,regime_orders,regime_match,movement,movement_brief]'
time_steps 'studies=[regime_gsm8k,regime_rules_gsm8k]'
