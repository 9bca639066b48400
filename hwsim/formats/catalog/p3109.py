"""A sample of the IEEE P3109 family; `hwsim.formats.exmy.p3109` makes the others."""

from hwsim.formats.exmy import p3109

P3109 = (
    p3109(8, 3),
    p3109(8, 4),
    p3109(8, 5, domain="finite"),
    p3109(8, 1, signed=False),
    p3109(6, 3),
    p3109(4, 2, domain="finite"),
    p3109(3, 2, domain="finite"),
    p3109(16, 8),
)
