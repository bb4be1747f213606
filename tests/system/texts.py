"""Strings that must come back exactly as they were sent."""
STRINGS = [
    "plain", "x", "  spaces  around  ", "Ünï¢ödé", "日本語のテキスト", "emoji 😀👩‍👩‍👧‍👦🏳️‍🌈", "שלום עולם ‮right to left", "quotes \" ' ` \\ / \\n",
    "<script>alert('x')</script> & &amp;", "line\nbreak\r\nand\ttab", "Robert'); DROP TABLE participant;--", "%s %d %n ${x} {{y}}",
    "\u0001\u001f control", "\ufeffbyte order mark", "\uffff and \U0010ffff", "e\u0301 is not \u00e9", "\u00e9 is not e\u0301, \uac01 not \u1100\u1161\u11a8", "\u2028\u2029 separators", "a\u202eb", "0", "null", "NaN", "a\u200db\u200bc",
]
