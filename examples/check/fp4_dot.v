// Dot product of MXFP4 blocks: 32 lanes of E2M1 codes a beat, one E8M0 scale a side, FP32 accumulator.
//
// A beat is one block: acc = round(acc + sum(a * b) * 2**(a_scale - 127) * 2**(b_scale - 127)), one rounding a block.
// in_last ends a dot product; its result stands at y two cycles later, and the next beat starts from zero.
// A scale code 255 is NaN and makes the result NaN.
module fp4_dot (
    input  wire         clk,
    input  wire         rst_n,
    input  wire         in_valid,
    input  wire         in_last,
    input  wire [127:0] a_codes,   // lane 0 in bits 3:0
    input  wire [127:0] b_codes,   // lane 0 in bits 127:124
    input  wire [15:0]  scales,    // of a in bits 7:0, of b above
    output wire [31:0]  y
);
    // ---- multiply, and sum the block exactly in quarters
    function [3:0] halves;  // magnitude of a code, in halves
        input [2:0] code;
        halves = code[2:1] == 0 ? {3'b0, code[0]} : {2'b0, 1'b1, code[0]} << (code[2:1] - 2'd1);
    endfunction

    reg signed [13:0] sum;
    reg [7:0] product;
    integer lane;
    reg [3:0] a, b;
    always @* begin
        sum = 0;
        for (lane = 0; lane < 32; lane = lane + 1) begin
            a = a_codes[4 * lane +: 4];
            b = b_codes[4 * (31 - lane) +: 4];
            product = halves(a[2:0]) * halves(b[2:0]);
            sum = (a[3] ^ b[3]) ? sum - $signed({6'b0, product}) : sum + $signed({6'b0, product});
        end
    end

    reg signed [13:0] block;
    reg signed [9:0] weight;  // of the block's lowest bit, as a power of two
    reg nan, full, full_last;
    always @(posedge clk or negedge rst_n)
        if (!rst_n) begin
            full <= 0;
            full_last <= 0;
        end else begin
            full <= in_valid;
            full_last <= in_last;
            block <= sum;
            weight <= $signed({2'b0, scales[7:0]}) + $signed({2'b0, scales[15:8]}) - 10'sd256;
            nan <= &scales[7:0] | &scales[15:8];
        end

    // ---- accumulate
    reg [31:0] acc;
    reg fresh;  // the next block is the first one of a dot product
    wire [31:0] old = fresh ? 32'd0 : acc;

    // both addends as a significand of 24 bits with a leading one, and the exponent of that one
    function [4:0] leading;  // zeros above the highest one
        input [23:0] bits;
        integer i;
        begin
            leading = 24;
            for (i = 0; i < 24; i = i + 1)
                if (bits[i]) leading = 23 - i;
        end
    endfunction

    wire [23:0] block_bits = {10'b0, block[13] ? -block : block};
    wire [23:0] acc_bits = {|old[30:23], old[22:0]};
    wire [4:0] block_zeros = leading(block_bits), acc_zeros = leading(acc_bits);
    wire signed [11:0] block_top = $signed({{2{weight[9]}}, weight}) + 12'sd23 - $signed({7'b0, block_zeros});
    wire signed [11:0] acc_top = $signed({4'b0, |old[30:23] ? old[30:23] : 8'd1}) - 12'sd127
                                 - $signed({7'b0, acc_zeros});
    wire [23:0] block_man = block_bits << block_zeros, acc_man = acc_bits << acc_zeros;

    // the one with the larger exponent stays, the other is shifted right; what leaves the window sticks to its last bit
    wire acc_larger = block_bits == 0 || (acc_bits != 0 && acc_top >= block_top);
    wire [23:0] upper = acc_larger ? acc_man : block_man, lower = acc_larger ? block_man : acc_man;
    wire upper_sign = acc_larger ? old[31] : block[13], lower_sign = acc_larger ? block[13] : old[31];
    wire signed [11:0] top = acc_larger ? acc_top : block_top;
    wire [11:0] distance = acc_larger ? acc_top - block_top : block_top - acc_top;
    wire [53:0] window = {lower, 30'b0};
    wire [53:0] shifted = distance < 54 ? window >> distance[5:0] : 54'd0;
    wire lost = distance < 54 ? (shifted << distance[5:0]) != window : lower != 0;
    wire [54:0] aligned = {1'b0, shifted[53:1], shifted[0] | lost};
    wire [54:0] other = {1'b0, upper, 30'b0};
    wire [54:0] difference = other - aligned;
    wire [54:0] raw = upper_sign == lower_sign ? other + aligned : difference[54] ? -difference : difference;
    wire raw_sign = upper_sign == lower_sign ? upper_sign : upper_sign ^ difference[54];

    wire [31:0] rounded;
    fp4_dot_round round (.sign(raw_sign), .magnitude(raw), .top(top), .y(rounded));

    wire stays = &old[30:23];  // NaN and infinity
    always @(posedge clk or negedge rst_n)
        if (!rst_n)
            fresh <= 1;
        else if (full) begin
            acc <= nan | (stays & |old[22:0]) ? 32'h7fc00000 : stays ? old : rounded;
            fresh <= full_last;
        end

    assign y = acc;
endmodule
