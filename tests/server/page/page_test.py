"""The page in Chromium, against a server whose answers are scripted.  page_test.py PAGE [PART, or PART.Class.test ...]

The parts are answers_test, server_test, conversations_test and reading_test.
"""
import os
import sys
import unittest

PARTS = ['answers_test', 'server_test', 'conversations_test', 'reading_test']

if __name__ == '__main__':
    os.environ['TQKV_PAGE'] = sys.argv[1]
    unittest.main(module=None, argv=[sys.argv[0], *(sys.argv[2:] or PARTS)], verbosity=2)
