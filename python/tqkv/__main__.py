from tqkv import main

main()
