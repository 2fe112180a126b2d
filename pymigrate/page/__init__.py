# SPDX-License-Identifier: Apache-2.0
"""Reports in words and pictures, without a terminal and without a network.

:mod:`pymigrate.page.report` makes one self-contained HTML page of a report;
the modules of words are shared with the tables of the command line. All of it
works on the JSON form of a report, so that one of another process, or of last
week, is shown in the same way. Pure: no native code.
"""
