// Round to FP32: to nearest, ties to even (away from zero where TIES_AWAY is defined).
//
// The value is magnitude * 2**(top - 53); the lowest bit of magnitude also stands for everything below it.
module fp4_dot_round (
    input  wire               sign,
    input  wire [54:0]        magnitude,
    input  wire signed [11:0] top,
    output wire [31:0]        y
);
    reg [5:0] zeros;
    integer i;
    always @* begin
        zeros = 55;
        for (i = 0; i < 55; i = i + 1)
            if (magnitude[i]) zeros = 54 - i;
    end

    // leading one at bit 54; results below 2**-126 are subnormal: they keep fewer bits
    wire signed [12:0] exponent = $signed({top[11], top}) + 13'sd1 - $signed({7'b0, zeros});
    wire [54:0] normal = magnitude << zeros;
    wire signed [12:0] deficit = -13'sd126 - exponent;
    wire subnormal = deficit > 0;
    wire [5:0] shift = !subnormal ? 6'd0 : deficit > 55 ? 6'd55 : deficit[5:0];
    wire [54:0] shifted = normal >> shift;
    wire lost = (shifted << shift) != normal;

    wire [23:0] kept = shifted[54:31];
    wire guard = shifted[30];
    wire sticky = |shifted[29:0] | lost;
`ifdef TIES_AWAY
    wire up = guard;
`else
    wire up = guard & (sticky | kept[0]);
`endif

    // the leading one adds to the exponent field, and so does the carry of rounding up
    wire [12:0] field = subnormal ? 13'd0 : exponent + 13'sd126;
    wire [35:0] code = {field, 23'b0} + {12'b0, kept} + {35'b0, up};
    wire overflow = code[35:23] >= 255;
    assign y = magnitude == 0 ? 32'd0 : {sign, overflow ? 31'h7f800000 : code[30:0]};
endmodule
