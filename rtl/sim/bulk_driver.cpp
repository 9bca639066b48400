// Streams beats through a design that Yosys has written as C++ (CXXRTL), records what happens, and holds it against the
// model, all without leaving compiled code. rtl/sim/bulk.py calls it; rtl/sim/bench.py is the same bench in a Verilog
// simulator and rtl/sim/judge.py the same judge: the three agree cycle by cycle, which the tests demand.

#include "design.cc"

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <vector>

namespace {

using Top = cxxrtl_design::p_top;

// bits of a trace entry, as in rtl/sim/job.py
enum : uint8_t { RESET = 1, I_VALID = 2, I_READY = 4, O_VALID = 8, O_READY = 16 };

// what a first mismatch is, in the order of WHATS in rtl/sim/bulk.py
enum What : int64_t { NONE, BITS, I_READY_WRONG, O_VALID_WRONG, MISSING };

// an output that a register drives directly is a wire, any other a value
template <size_t N> const cxxrtl::value<N> &now(const cxxrtl::value<N> &signal) { return signal; }
template <size_t N> const cxxrtl::value<N> &now(const cxxrtl::wire<N> &signal) { return signal.curr; }

template <class T> struct width;
template <size_t N> struct width<cxxrtl::value<N>> { static constexpr size_t bits = N, words = (N + 31) / 32; };
template <size_t N> struct width<cxxrtl::wire<N>> : width<cxxrtl::value<N>> {};

using Payload = width<decltype(Top::p_i____payload)>;
using Result = width<decltype(Top::p_o____payload)>;
static_assert(sizeof(cxxrtl::chunk_t) == 4, "payloads are 32-bit words");

// The design with a clock. A cycle is settle(), in which the outputs may be read, then edge().
class Clocked {
public:
    Clocked() : top(new Top) {
        // A design without feedback through its logic says that one evaluation is enough. Then the same evaluation also
        // gives the registers' next values, so that a cycle costs one instead of two.
        once = top->eval();
        top->commit();
#ifdef HWSIM_STEPPED // for designs that use more than the rising edges of this one clock
        once = false;
#endif
    }

    void settle() {
        if (once) {
            top->prev_p_clk.set(false);
            top->p_clk.set(true);
            top->eval();
        } else {
            top->p_clk.set(false);
            top->step();
        }
    }

    void edge() {
        if (once) {
            top->commit();
        } else {
            top->p_clk.set(true);
            top->step();
        }
    }

    std::unique_ptr<Top> top;

private:
    bool once;
};

// The handshake of every unit; hwsim.pe.timing.StallPipe is the same rule.
class StallPipe {
public:
    StallPipe(int64_t latency, int64_t burst) : latency(latency), valid(latency + burst - 1), head(0) {}

    bool out_valid() const { return valid[head]; }
    bool free() const { return busy == 0; }

    // cycles: those that the beat at the input occupies the front, if it is taken
    void step(bool enable, bool offered, bool last, int32_t cycles) {
        if (!enable)
            return;
        valid[head] = false;
        head = at(1);
        if (busy) {
            busy--;
        } else if (offered) {
            busy = cycles - 1;
            ends = last;
        }
        if (busy == 0 && ends) {
            for (size_t steps = latency - 1; steps < valid.size(); steps++)
                valid[at(steps)] = true;
            ends = false;
        }
    }

    void reset() {
        std::fill(valid.begin(), valid.end(), 0);
        busy = 0;
        ends = false;
    }

private:
    size_t at(size_t steps) const {
        size_t place = head + steps;
        return place < valid.size() ? place : place - valid.size();
    }

    size_t latency;
    std::vector<uint8_t> valid; // a ring: what stands at the output now, after one more step, after two, ...
    size_t head;
    int32_t busy = 0;  // enabled cycles until the next beat can be taken
    bool ends = false; // the beat in the front is a last one
};

// Goes round a pattern of willing cycles.
class Pattern {
public:
    Pattern(const uint8_t *cycles, int64_t count) : cycles(cycles), count(count), at(0) {}

    bool next() {
        bool willing = cycles[at];
        at = at + 1 == count ? 0 : at + 1;
        return willing;
    }

private:
    const uint8_t *cycles;
    int64_t count, at;
};

} // namespace

extern "C" {

struct Plan { // rtl.sim.job.Pass, and how to judge it
    int64_t first, end, outputs, max_cycles, reset_cycle, resume; // reset_cycle -1: none
    int64_t idle_cycles;
    int64_t latency;    // of the handshake's model; 0: the handshake is not judged
    int64_t results;    // of a transaction (dot product)
    int64_t stop_after; // differences after which to stop; 0: never
    int64_t fault;      // number of the fault that is switched on; 0: none
};

struct Outcome {
    int64_t cycles, valid_cycles;
    int64_t vectors, mismatches, cycle_mismatches;
    int64_t span_first, span_last; // cycles of the first beat and of the last transfer; -1: none
    int64_t what, cycle, vector;   // of the first mismatch
    int64_t expected, found;       // of the first mismatch's handshake bit
};

}

namespace {

// Walks through a run with the model at its side, as rtl/sim/judge.py does.
class Judge {
public:
    Judge(const Plan &plan, const int64_t *ends, int64_t dots, const uint32_t *expected, const int32_t *beat_cycles,
          Outcome &outcome)
        : plan(plan), ends(ends), dots(dots), expected(expected), beat_cycles(beat_cycles), outcome(outcome),
          pipe(std::max<int64_t>(plan.latency, 1), plan.results), due(dots * plan.results), position(plan.first) {
        seek();
    }

    void step(int64_t cycle, uint8_t entry, const uint32_t *result, uint32_t *first_result) {
        bool taken_in = (entry & I_VALID) && (entry & I_READY), taken_out = (entry & O_VALID) && (entry & O_READY);
        if (plan.latency)
            check_handshake(cycle, entry);
        if (entry & O_VALID)
            check_payload(cycle, result, taken_out, first_result);
        if (taken_in || taken_out) {
            if (outcome.span_first < 0)
                outcome.span_first = cycle;
            outcome.span_last = cycle;
        }
        if (taken_in) {
            if (in_vector < dots && ends[in_vector] == position)
                in_vector++;
            position++;
        }
        if (entry & RESET) {
            pipe.reset();
            position = plan.resume;
            seek();
            out_vector = in_vector * plan.results;
        }
    }

    void finish(int64_t cycles) {
        int64_t missing = std::max<int64_t>(due - out_vector, 0);
        if (missing)
            note(MISSING, cycles - 1, 0, 0);
        outcome.vectors += missing;
        outcome.mismatches += missing;
    }

private:
    void seek() { in_vector = std::lower_bound(ends, ends + dots, position) - ends; }

    void check_handshake(int64_t cycle, uint8_t entry) {
        bool i_ready = entry & I_READY, o_valid = entry & O_VALID;
        bool valid = pipe.out_valid(), enable = !valid || (entry & O_READY), ready = enable && pipe.free();
        bool offered = entry & I_VALID, last = offered && in_vector < dots && ends[in_vector] == position;
        pipe.step(enable, offered, last, beat_cycles && offered ? beat_cycles[position] : 1);
        if (i_ready != ready || o_valid != valid) {
            outcome.cycle_mismatches++;
            if (o_valid != valid)
                note(O_VALID_WRONG, cycle, valid, o_valid);
            else
                note(I_READY_WRONG, cycle, ready, i_ready);
        }
    }

    void check_payload(int64_t cycle, const uint32_t *result, bool taken, uint32_t *first_result) {
        bool right = out_vector < due &&
                     std::memcmp(result, expected + out_vector * Result::words, 4 * Result::words) == 0;
        if (!right) {
            spoilt = true;
            if (outcome.what == NONE)
                std::memcpy(first_result, result, 4 * Result::words);
            note(BITS, cycle, 0, 0);
        }
        if (taken) {
            outcome.vectors++;
            outcome.mismatches += spoilt;
            out_vector++;
            spoilt = false;
        }
    }

    void note(What what, int64_t cycle, bool model, bool found) {
        if (outcome.what != NONE)
            return;
        outcome.what = what;
        outcome.cycle = cycle;
        outcome.vector = out_vector;
        outcome.expected = model;
        outcome.found = found;
    }

    const Plan &plan;
    const int64_t *ends;
    int64_t dots;
    const uint32_t *expected;
    const int32_t *beat_cycles;
    Outcome &outcome;
    StallPipe pipe;
    int64_t due; // results
    int64_t position, in_vector = 0, out_vector = 0;
    bool spoilt = false; // the result at the output has been wrong in some cycle
};

} // namespace

extern "C" {

// Bits of the input's and of the output's payload.
void hwsim_widths(int64_t *bits) {
    bits[0] = Payload::bits;
    bits[1] = Result::bits;
}

// Run one pass from reset.
//
// payloads    [beats, words of a payload], least significant word first
// ends        [dots], number of the last beat of each transaction; none (dots = 0, ends null): nothing is judged
// expected    [dots * plan->results, words of a result]
// beat_cycles [beats], cycles that each beat occupies the unit's front, or null: one each
// offer, take patterns of willing cycles, repeated as needed
// trace       [max_cycles] or null; results [max_cycles, words of a result] or null: one row a cycle with o.valid
// first_result [words of a result], what stood at the output at a first mismatch of bits
void hwsim_run(const uint32_t *payloads, const int64_t *ends, int64_t dots, const uint32_t *expected,
               const int32_t *beat_cycles, const Plan *plan, const uint8_t *offer, int64_t offer_cycles, const uint8_t *take, int64_t take_cycles, uint8_t *trace,
               uint32_t *results, uint32_t *first_result, Outcome *outcome) {
    Clocked design;
    Top &top = *design.top;
    *outcome = Outcome{};
    outcome->span_first = outcome->span_last = -1;
    Judge judge(*plan, ends, dots, expected, beat_cycles, *outcome);
#ifdef HWSIM_FAULTS
    top.p_fault.set<uint32_t>(plan->fault);
#endif

    top.p_rst.set(true);
    for (int cycle = 0; cycle < 2; cycle++) {
        design.settle();
        design.edge();
    }

    Pattern offers(offer, offer_cycles), takes(take, take_cycles);
    int64_t position = plan->first, outputs = 0, idle = 0, cycle = 0;
    bool offered = false, stopped = false;
    while (cycle < plan->max_cycles) {
        bool reset = cycle == plan->reset_cycle;
        if (reset) {
            position = plan->resume;
            offered = false;
            outputs = 0;
        }
        bool offering = offers.next(), taking = takes.next();
        offered = !reset && (offered || (position < plan->end && offering));
        bool ready = !reset && taking;
        top.p_rst.set(reset);
        top.p_i____valid.set(offered);
        top.p_o____ready.set(ready);
        if (offered)
            std::memcpy(top.p_i____payload.data, payloads + position * Payload::words, 4 * Payload::words);

        design.settle();
        bool accepts = now(top.p_i____ready).data[0], valid = now(top.p_o____valid).data[0];
        const uint32_t *result = now(top.p_o____payload).data;
        uint8_t entry = (reset ? RESET : 0) | (offered ? I_VALID : 0) | (accepts ? I_READY : 0) |
                        (valid ? O_VALID : 0) | (ready ? O_READY : 0);
        if (trace)
            trace[cycle] = entry;
        if (valid) {
            if (results)
                std::memcpy(results + outcome->valid_cycles * Result::words, result, 4 * Result::words);
            outcome->valid_cycles++;
            outputs += ready;
        }
        if (ends)
            judge.step(cycle, entry, result, first_result);
        design.edge();

        if (offered && accepts) {
            position++;
            offered = false;
        }
        cycle++;
        stopped = plan->stop_after && outcome->mismatches + outcome->cycle_mismatches >= plan->stop_after;
        idle = outputs >= plan->outputs && position == plan->end ? idle + 1 : 0;
        if (stopped || (idle > plan->idle_cycles && cycle - 1 > std::max<int64_t>(plan->reset_cycle, 0)))
            break;
    }
    outcome->cycles = cycle;
    if (ends && !stopped)
        judge.finish(cycle);
}

}
