#!/bin/sh
# Instructions and allocations per segment by stage, counted by callgrind: the same on a busy machine as on an idle one.
#
#   benches/ingest/count.sh [SEGMENTS [BENCHMARK]]
#
# BENCHMARK is the compiled `ingest` benchmark; without it, it is built. The counts stay in target/callgrind/STAGE-INPUT
# (callgrind_annotate shows where they come from).
set -eu
cd "$(dirname "$0")/../.."
segments=${1:-12000}
bench=${2:-$(cargo bench --bench ingest --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\/ingest-[^"]*\)".*/\1/p')}
out=${CARGO_TARGET_DIR:-target}/callgrind
mkdir -p "$out"
for input in recorded five-span; do
    for stage in decode analysis dispatch aggregation whole; do
        file=$out/$stage-$input
        counted=$(valgrind --tool=callgrind --toggle-collect='*::measured*' --dump-instr=yes \
            --compress-strings=no --compress-pos=no --callgrind-out-file="$file" \
            "$bench" stage $stage $input "$segments" 2>"$file.log" | sed 's/ segments:.*//')
        # How often the first instruction of an entry to the allocator ran is how often it was called.
        awk -v counted="$counted" -v name="$input $stage" '
            /^fn=/ { is_entry = /^fn=mi_(malloc|zalloc|realloc)_aligned$/ }
            is_entry && /^0x/ { allocations += $3; is_entry = 0 }
            /^(summary|totals):/ { instructions = $2 }
            END { printf "%-24s %8.0f instructions %7.2f allocations\n", name, instructions / counted, allocations / counted }
        ' "$file"
    done
done
